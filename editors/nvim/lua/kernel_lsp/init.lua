--- What Neovim adds to the server: commands, lenses that draw themselves anew, the diff in
--- windows, and a text for the status line.

local windows = require('kernel_lsp.windows')

local M = {}

local group = vim.api.nvim_create_augroup('kernel_lsp', {})

--- User command → the server's command and what the help says of it.
M.commands = {
  KernelOptimize = { 'kernelLsp.optimize', 'Search for a CUDA kernel for the class at the cursor' },
  KernelStop = { 'kernelLsp.stop', 'Stop the search' },
  KernelResume = { 'kernelLsp.resume', 'Go on with a search that was stopped' },
  KernelDiff = { 'kernelLsp.showDiff', 'Show what Accept would change' },
  KernelAccept = { 'kernelLsp.accept', 'Put the offered kernel into the project' },
  KernelReject = { 'kernelLsp.reject', 'Decline the offered kernel' },
  KernelRevert = { 'kernelLsp.revert', 'Go back to the original forward' },
  KernelShow = { 'kernelLsp.showKernel', 'Show the kernel' },
  KernelIdeas = { 'kernelLsp.showRun', 'Show ideas and times of the search' },
  KernelInputs = { 'kernelLsp.insertInputs', "Insert the comment that describes the class's inputs" },
}

local DECISIONS = {
  pending = ' · waits for your decision',
  accepted = ' · accepted',
  rejected = ' · rejected',
  reverted = ' · reverted',
}

---@return vim.lsp.Client?
local function client_of(buffer)
  return vim.lsp.get_clients({ name = 'kernel_lsp', bufnr = buffer })[1]
end

--- Send a command of the server's. What a user can mend the server says itself.
---@param command lsp.Command
---@param buffer integer
---@param done fun(answer: table)?
local function execute(command, buffer, done)
  local client = client_of(buffer)
  if not client then
    vim.notify('kernel-lsp does not run here: see :checkhealth kernel_lsp', vim.log.levels.WARN)
    return
  end
  local params = { command = command.command, arguments = command.arguments }
  client:request('workspace/executeCommand', params, function(err, answer)
    if err then
      vim.notify(err.message, vim.log.levels.ERROR)
    elseif answer and answer ~= vim.NIL and done then
      done(answer)
    end
    M.draw(buffer) -- Neovim wipes the line's lenses when one of them is run
  end, buffer)
end

--- The server's commands that end in windows of ours, for lenses and code actions too.
M.client_commands = {}
for name, done in pairs({
  ['kernelLsp.showDiff'] = windows.diff,
  ['kernelLsp.accept'] = windows.close_diff,
  ['kernelLsp.reject'] = windows.close_diff,
  ['kernelLsp.revert'] = windows.close_diff,
}) do
  M.client_commands[name] = function(command, context)
    execute(command, context.bufnr or vim.api.nvim_get_current_buf(), done)
  end
end

--- Run a command of the server's for the class at the cursor.
---@param command string
function M.run(command)
  local buffer = vim.api.nvim_get_current_buf()
  local client = client_of(buffer)
  local at = vim.lsp.util.make_position_params(0, client and client.offset_encoding or 'utf-8')
  local target = { uri = at.textDocument.uri, position = at.position }
  local run = M.client_commands[command] or function(given)
    execute(given, buffer)
  end
  run({ command = command, arguments = { target } }, { bufnr = buffer })
end

--- All searches, newest first; the chosen one is opened at its class.
function M.runs()
  local buffer = vim.api.nvim_get_current_buf()
  execute({ command = 'kernelLsp.listRuns', arguments = {} }, buffer, function(answer)
    if #answer.runs == 0 then
      vim.notify('No searches yet: :KernelOptimize starts one.')
      return
    end
    vim.ui.select(answer.runs, {
      prompt = 'Kernel searches:',
      kind = 'kernel_lsp',
      format_item = function(run)
        local decision = DECISIONS[run.decision] or ''
        local file = vim.fs.basename(vim.uri_to_fname(run.uri))
        local started = os.date('%Y-%m-%d %H:%M', math.floor(run.created))
        return ('%s  %s::%s  %s%s'):format(started, file, run.qualname, run.result, decision)
      end,
    }, function(run)
      if run then
        M.open(run)
      end
    end)
  end)
end

--- Open a run's file and show its ideas once the server knows the file.
---@param run { uri: string, qualname: string, run: string }
function M.open(run)
  vim.cmd.edit(vim.fn.fnameescape(vim.uri_to_fname(run.uri)))
  local buffer = vim.api.nvim_get_current_buf()
  local function show()
    local target = { uri = run.uri, qualname = run.qualname, run = run.run }
    execute({ command = 'kernelLsp.showRun', arguments = { target } }, buffer)
  end
  if client_of(buffer) then
    show()
  else
    vim.api.nvim_create_autocmd('LspAttach', {
      buffer = buffer,
      callback = function()
        if client_of(buffer) then
          show()
          return true -- that was it
        end
      end,
    })
  end
end

--- Handler of `workspace/codeLens/refresh`.
function M.refresh()
  for _, client in ipairs(vim.lsp.get_clients({ name = 'kernel_lsp' })) do
    for buffer in pairs(client.attached_buffers) do
      M.draw(buffer)
    end
  end
  return vim.NIL
end

--- Draw a buffer's lenses anew.
---@param buffer integer
function M.draw(buffer)
  if vim.api.nvim_buf_is_loaded(buffer) and not vim.lsp.codelens.enable then
    vim.lsp.codelens.refresh({ bufnr = buffer })
  end
end

--- Handler of `window/showDocument`: what belongs to a search opens in a window of its own.
function M.show_document(err, params, context)
  if vim.uri_to_fname(params.uri):match('/shown/[^/]+/[^/]+$') then
    windows.page(params.uri)
    return { success = true }
  end
  return vim.lsp.handlers['window/showDocument'](err, params, context)
end

--- `on_attach` of the configuration.
---@param client vim.lsp.Client
---@param buffer integer
function M.attach(client, buffer)
  for name, entry in pairs(M.commands) do
    vim.api.nvim_buf_create_user_command(buffer, name, function()
      M.run(entry[1])
    end, { desc = entry[2] })
  end
  vim.api.nvim_buf_create_user_command(buffer, 'KernelRuns', M.runs, { desc = 'List all searches' })
  if vim.lsp.codelens.enable then -- Neovim 0.12 draws them anew by itself
    vim.lsp.codelens.enable(true, { bufnr = buffer, client_id = client.id })
    return
  end
  M.draw(buffer)
  vim.api.nvim_clear_autocmds({ group = group, buffer = buffer })
  vim.api.nvim_create_autocmd({ 'BufEnter', 'TextChanged', 'InsertLeave' }, {
    group = group,
    buffer = buffer,
    callback = function()
      M.draw(buffer)
    end,
  })
end

-- --- progress ----------------------------------------------------------------------------

local running = {} ---@type table<lsp.ProgressToken, { title: string, message: string }>

vim.api.nvim_create_autocmd('LspProgress', {
  group = group,
  callback = function(event)
    local client = vim.lsp.get_client_by_id(event.data.client_id)
    if not client or client.name ~= 'kernel_lsp' then
      return
    end
    local token, value = event.data.params.token, event.data.params.value
    local known = running[token] or { title = '', message = '' }
    known.title = value.title and value.title:gsub('^Optimizing ', '') or known.title
    known.message = value.message or known.message
    running[token] = value.kind ~= 'end' and known or nil
    vim.cmd.redrawstatus()
  end,
})

vim.api.nvim_create_autocmd('LspDetach', {
  group = group,
  callback = function(event)
    local client = vim.lsp.get_client_by_id(event.data.client_id)
    if client and client.name == 'kernel_lsp' then
      running = {}
    end
  end,
})

--- The running searches for a status line, '' where there are none:
--- `%{v:lua.require'kernel_lsp'.status()}`. What matters least is last and cut first.
---@param width integer? in characters, 60 by default
---@return string
function M.status(width)
  width = width or 60
  local texts = {}
  for _, search in pairs(running) do
    table.insert(texts, search.title .. ' · ' .. search.message)
  end
  local text = #texts > 1 and #texts .. ' kernel searches' or texts[1] or ''
  local long = vim.fn.strchars(text) > width
  return long and vim.fn.strcharpart(text, 0, width - 1) .. '…' or text
end

return M
