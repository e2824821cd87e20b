--- Windows for what belongs to a search: read-only, of no project, closed with `q`.

local M = {}

local diff_tab ---@type integer?

--- A buffer with the text of a file of the server's; no language server attaches to it.
---@param uri string
---@param name string
---@return integer
local function scratch(uri, name)
  local known = vim.fn.bufnr('^' .. vim.fn.escape(name, '[]*?\\') .. '$')
  local buffer = known ~= -1 and known or vim.api.nvim_create_buf(false, true)
  vim.bo[buffer].modifiable = true
  local lines = vim.fn.readfile(vim.uri_to_fname(uri))
  vim.api.nvim_buf_set_lines(buffer, 0, -1, false, lines)
  if known == -1 then
    vim.api.nvim_buf_set_name(buffer, name)
    vim.bo[buffer].bufhidden = 'wipe'
    vim.bo[buffer].filetype = vim.filetype.match({ filename = name, buf = buffer }) or ''
  end
  vim.bo[buffer].modifiable = false
  vim.bo[buffer].modified = false
  return buffer
end

---@param buffer integer
---@param close fun()
local function on_q(buffer, close)
  vim.keymap.set('n', 'q', close, { buffer = buffer, nowait = true, desc = 'Close' })
end

--- A page of a search: its ideas and times, or a kernel.
---@param uri string
function M.page(uri)
  local path = vim.uri_to_fname(uri)
  local run = vim.fs.basename(vim.fs.dirname(path))
  local buffer = scratch(uri, ('kernel-lsp://%s/%s'):format(run, vim.fs.basename(path)))
  local window = vim.fn.bufwinid(buffer)
  if window ~= -1 then
    vim.api.nvim_set_current_win(window)
    return
  end
  vim.cmd.split()
  vim.api.nvim_win_set_buf(0, buffer)
  if vim.bo[buffer].filetype == 'markdown' then
    vim.wo.conceallevel, vim.wo.wrap, vim.wo.linebreak = 2, true, true
  end
  on_q(buffer, vim.cmd.close)
end

--- The answer of `kernelLsp.showDiff` in a tab page: the file beside the file with the kernel,
--- and the kernel below.
---@param answer { run: string, original: string, modified: string, created: string[] }
function M.diff(answer)
  M.close_diff()
  local function name(uri)
    return ('kernel-lsp://%s/with kernel/%s'):format(answer.run, vim.fs.basename(uri))
  end
  vim.cmd.tabnew()
  diff_tab = vim.api.nvim_get_current_tabpage()
  local empty = vim.api.nvim_get_current_buf()
  vim.api.nvim_win_set_buf(0, vim.uri_to_bufnr(answer.original))
  vim.api.nvim_buf_delete(empty, { force = true })
  local left = vim.api.nvim_get_current_win()
  for _, uri in ipairs(answer.created) do
    if vim.endswith(uri, '.cu') then
      local kernel = scratch(uri, name(uri))
      vim.cmd('botright split')
      vim.api.nvim_win_set_buf(0, kernel)
      on_q(kernel, M.close_diff)
    end
  end
  vim.api.nvim_set_current_win(left)
  local modified = scratch(answer.modified, name(answer.modified))
  vim.cmd('rightbelow vsplit')
  vim.api.nvim_win_set_buf(0, modified)
  on_q(modified, M.close_diff)
  vim.cmd.diffthis()
  vim.api.nvim_win_call(left, vim.cmd.diffthis)
end

--- Once there is a decision, nobody needs the diff any more.
function M.close_diff()
  local tab = diff_tab
  diff_tab = nil
  if tab and vim.api.nvim_tabpage_is_valid(tab) and #vim.api.nvim_list_tabpages() > 1 then
    vim.cmd.tabclose(vim.api.nvim_tabpage_get_number(tab))
  end
end

return M
