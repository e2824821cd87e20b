import * as vscode from 'vscode';
import type { Contents, Interpreter } from './interpreter';

const PACKAGE = 'kernel-lsp';

/**
 * Says once that the interpreter cannot run the server, and offers what helps.
 *
 * @returns true where the package was installed, so that the server can be started now.
 */
export async function offerInstallation(
  interpreter: Interpreter,
  contents: Contents,
): Promise<boolean> {
  const [major, minor] = contents.version;
  if (major < 3 || (major === 3 && minor < 10)) {
    await offerChoice(
      `Kernel LSP needs Python 3.10 or newer; ${interpreter.path} is ${major}.${minor}.`,
    );
    return false;
  }
  const beside = contents.torch ? '' : ', and neither is torch: choose the Python that has yours';
  const install = contents.torch ? 'Install' : 'Install Both';
  const choice = await vscode.window.showInformationMessage(
    `kernel-lsp is not installed in ${interpreter.path}${beside}.`,
    ...(contents.torch ? [install, CHOOSE] : [CHOOSE, install]),
  );
  if (choice === CHOOSE) {
    await choose();
  }
  return choice === install && (await runInstallation(interpreter.path, contents.pip));
}

/** Says what is wrong with the interpreter and offers to choose another. */
export async function offerChoice(message: string): Promise<void> {
  if ((await vscode.window.showWarningMessage(message, CHOOSE)) === CHOOSE) {
    await choose();
  }
}

const CHOOSE = 'Choose Interpreter';

async function choose(): Promise<void> {
  if (vscode.extensions.getExtension('ms-python.python')) {
    await vscode.commands.executeCommand('python.setInterpreter');
  } else {
    await vscode.commands.executeCommand('workbench.action.openSettings', 'kernel-lsp.interpreter');
  }
}

/** Installs in a terminal, where the user sees what happens and can stop it. */
async function runInstallation(interpreter: string, pip: boolean): Promise<boolean> {
  // Environments that uv made have no pip.
  const execution = pip
    ? new vscode.ProcessExecution(interpreter, ['-m', 'pip', 'install', PACKAGE])
    : new vscode.ProcessExecution('uv', ['pip', 'install', '--python', interpreter, PACKAGE]);
  const task = new vscode.Task(
    { type: 'process' },
    vscode.TaskScope.Workspace,
    'install kernel-lsp',
    'Kernel LSP',
    execution,
  );
  task.presentationOptions = { reveal: vscode.TaskRevealKind.Always };
  const ended = new Promise<number | undefined>((resolve) => {
    const listener = vscode.tasks.onDidEndTaskProcess((event) => {
      if (event.execution.task.name === task.name) {
        listener.dispose();
        resolve(event.exitCode);
      }
    });
  });
  await vscode.tasks.executeTask(task);
  return (await ended) === 0;
}
