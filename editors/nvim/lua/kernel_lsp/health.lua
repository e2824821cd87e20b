--- `:checkhealth kernel_lsp`

local M = {}

local DOCTOR_MILLISECONDS = 120000 -- it imports torch

function M.check()
  local health = vim.health
  health.start('kernel-lsp')
  if vim.fn.has('nvim-0.11') == 0 then
    health.error('Neovim 0.11 or newer is needed', 'Update Neovim.')
    return
  end
  health.ok('Neovim ' .. tostring(vim.version()))
  if not vim.lsp.is_enabled('kernel_lsp') then
    health.warn('The server is not enabled', "vim.g.kernel_lsp_enabled is false, or plugin/ was not read: `vim.lsp.enable('kernel_lsp')`.")
  end
  local server = require('kernel_lsp.server')
  local root = vim.fn.getcwd()
  local command = server.command(root)
  if not command then
    health.error('kernel-lsp is not installed for ' .. root, {
      "`pip install kernel-lsp` in the project's environment (the one with your torch); looked at:",
      '$VIRTUAL_ENV, .venv and venv in ' .. root .. ', and the PATH.',
    })
    return
  end
  health.ok('Server: ' .. table.concat(command, ' '))
  local clients = #vim.lsp.get_clients({ name = 'kernel_lsp' })
  health.info(clients == 0 and 'No Python file is open: it does not run now.' or 'It runs now.')
  M.doctor(vim.list_slice(command, 1, #command - 1))
end

--- What the server's own `doctor` finds.
---@param program string[]
function M.doctor(program)
  local health = vim.health
  vim.list_extend(program, { 'doctor', '--json' })
  local started, job = pcall(vim.system, program, { text = true })
  local done = started and job:wait(DOCTOR_MILLISECONDS) or { stdout = '', stderr = job }
  local parsed, report = pcall(vim.json.decode, done.stdout)
  if not parsed or not report.checks then
    health.error('`' .. table.concat(program, ' ') .. '` failed', vim.trim(done.stderr or ''))
    return
  end
  for _, check in ipairs(report.checks) do
    local text = check.name .. ': ' .. check.found
    local advice = check.advice ~= '' and check.advice ~= vim.NIL and check.advice or nil
    if check.ok == true then
      health.ok(text)
    elseif check.ok == false then
      health.error(text, advice)
    elseif advice then
      health.warn(text, advice)
    else -- found and not needed
      health.info(text)
    end
  end
  health.info(report.summary)
end

return M
