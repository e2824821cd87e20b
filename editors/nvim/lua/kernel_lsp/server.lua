--- Which server belongs to a project, and how it is started.

local M = {}

local MARKERS = { 'pyproject.toml', 'setup.py', 'setup.cfg', 'requirements.txt', '.git' }

local missing = false -- said once

--- The folder of this plugin. The server is started in it: `python -m` puts its working folder
--- first on the path, and files of the user's could shadow what the server imports.
local here = vim.fs.dirname(debug.getinfo(1, 'S').source:sub(2))

local function is_executable(path)
  return vim.fn.executable(path) == 1
end

--- The interpreter that the user set, '' where none is.
local function setting()
  local config = vim.lsp.config.kernel_lsp or {}
  local section = (config.settings or {})['kernel-lsp'] or {}
  return vim.fs.normalize(section.interpreter or '')
end

--- The command of the server for a project, nil where kernel-lsp is not installed: under the
--- interpreter of the settings, else in the active virtual environment, the project's own, or on
--- the PATH.
---@param root string
---@return string[]?
function M.command(root)
  local python = setting()
  if python ~= '' then
    return { python, '-m', 'kernel_lsp', 'serve' }
  end
  local places = { root .. '/.venv', root .. '/venv' }
  if vim.env.VIRTUAL_ENV then
    table.insert(places, 1, vim.env.VIRTUAL_ENV)
  end
  for _, place in ipairs(places) do
    local script = place .. '/bin/kernel-lsp'
    if is_executable(script) then
      return { script, 'serve' }
    end
  end
  return is_executable('kernel-lsp') and { vim.fn.exepath('kernel-lsp'), 'serve' } or nil
end

--- The project of a buffer; a file without one is a project by itself.
---@param buffer integer
---@return string
function M.root(buffer)
  return vim.fs.root(buffer, MARKERS) or vim.fs.dirname(vim.api.nvim_buf_get_name(buffer))
end

--- `root_dir` of the configuration: without a server nothing is started, and that is said once.
---@param buffer integer
---@param on_dir fun(root: string)
function M.root_dir(buffer, on_dir)
  if vim.api.nvim_buf_get_name(buffer) == '' then
    return
  end
  local root = M.root(buffer)
  if M.command(root) then
    on_dir(root)
  elseif not missing then
    missing = true
    vim.notify(
      'kernel-lsp is not installed where it would be looked for: run `pip install kernel-lsp` in the '
        .. "project's virtual environment, or see :checkhealth kernel_lsp",
      vim.log.levels.WARN
    )
  end
end

--- `cmd` of the configuration.
---@param dispatchers vim.lsp.rpc.Dispatchers
---@param config vim.lsp.ClientConfig?
---@return vim.lsp.rpc.PublicClient
function M.start(dispatchers, config)
  local command = M.command(config and config.root_dir or vim.fn.getcwd())
  assert(command, 'kernel-lsp is not installed')
  return vim.lsp.rpc.start(command, dispatchers, { cwd = here })
end

return M
