-- Neovim's configuration of the server; `vim.lsp.config('kernel_lsp', …)` changes any of it.

local kernel_lsp = require('kernel_lsp')
local server = require('kernel_lsp.server')

return {
  cmd = server.start,
  filetypes = { 'python' },
  root_dir = server.root_dir,
  capabilities = {
    -- Neovim 0.11 draws lenses, but does not hear when the server has new ones.
    workspace = { codeLens = { refreshSupport = true } },
    experimental = { kernelLsp = { showDiff = true } },
  },
  handlers = {
    ['workspace/codeLens/refresh'] = kernel_lsp.refresh,
    ['window/showDocument'] = kernel_lsp.show_document,
  },
  commands = kernel_lsp.client_commands,
  on_attach = kernel_lsp.attach,
}
