// The real one is not to be had from npm. Its API: github.com/microsoft/vscode-python,
// src/client/api/types.ts (PythonExtension.environments).
const vscode = require('vscode');

exports.activate = (context) => {
  const changed = new vscode.EventEmitter();
  const active = () => {
    const path = vscode.workspace.getConfiguration('python').get('defaultInterpreterPath');
    return { id: path, path };
  };
  context.subscriptions.push(
    vscode.workspace.onDidChangeConfiguration((event) => {
      if (event.affectsConfiguration('python.defaultInterpreterPath')) {
        changed.fire(active());
      }
    }),
  );
  return {
    environments: {
      getActiveEnvironmentPath: active,
      resolveEnvironment: async ({ path }) => ({ executable: { uri: vscode.Uri.file(path) } }),
      onDidChangeActiveEnvironmentPath: changed.event,
    },
  };
};
