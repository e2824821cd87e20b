-- Being on the runtime path is enough. `vim.g.kernel_lsp_enabled = false` opts out.

if vim.g.loaded_kernel_lsp then
  return
end
vim.g.loaded_kernel_lsp = true

if vim.fn.has('nvim-0.11') == 0 then
  vim.notify('kernel-lsp needs Neovim 0.11 or newer.', vim.log.levels.WARN)
elseif vim.g.kernel_lsp_enabled ~= false then
  vim.lsp.enable('kernel_lsp')
end
