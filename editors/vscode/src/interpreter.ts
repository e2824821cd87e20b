import { execFile } from 'node:child_process';
import * as fs from 'node:fs/promises';
import * as os from 'node:os';
import * as path from 'node:path';
import * as vscode from 'vscode';

/** Where a Python was found, in the order in which one is looked for. */
export type Source = 'setting' | 'python extension' | 'workspace' | 'path';

export interface Interpreter {
  readonly path: string;
  readonly source: Source;
}

/** What an interpreter has, as far as it matters here. */
export interface Contents {
  readonly version: readonly [number, number];
  readonly kernelLsp: boolean;
  readonly torch: boolean;
  readonly pip: boolean;
}

const PROBE = `
import json, sys
from importlib.util import find_spec
print(json.dumps({
    "version": sys.version_info[:2],
    "kernelLsp": None not in (find_spec("kernel_lsp"), find_spec("pygls")),
    "torch": find_spec("torch") is not None,
    "pip": find_spec("pip") is not None,
}))
`;

// A Python on a cold network disk takes its time; one that hangs is none.
const PROBE_MILLISECONDS = 60_000;

/**
 * The Python of a folder: the setting, then what the user chose in the Python extension (where
 * there is one), the folder's virtual environment, and `python3` on the PATH.
 */
export async function findInterpreter(
  folder: vscode.WorkspaceFolder | undefined,
): Promise<Interpreter | undefined> {
  const setting = vscode.workspace
    .getConfiguration('kernel-lsp', folder?.uri)
    .get<string>('interpreter', '');
  if (setting.trim()) {
    return { path: expand(setting.trim(), folder), source: 'setting' };
  }
  const chosen = await chosenInPythonExtension(folder);
  if (chosen) {
    return { path: chosen, source: 'python extension' };
  }
  for (const name of folder ? ['.venv', 'venv'] : []) {
    const python = path.join(folder!.uri.fsPath, name, 'bin', 'python');
    if (await isExecutable(python)) {
      return { path: python, source: 'workspace' };
    }
  }
  for (const directory of (process.env.PATH ?? '').split(path.delimiter)) {
    for (const name of directory ? ['python3', 'python'] : []) {
      if (await isExecutable(path.join(directory, name))) {
        return { path: path.join(directory, name), source: 'path' };
      }
    }
  }
  return undefined;
}

/**
 * What the interpreter has.
 *
 * @throws Error where it cannot be started or is no Python.
 */
export async function examine(interpreter: string, folder: string): Promise<Contents> {
  const answer = await new Promise<string>((resolve, reject) => {
    // The folder must not be the user's: `-c` would import what lies there first.
    const options = { cwd: folder, timeout: PROBE_MILLISECONDS };
    execFile(interpreter, ['-c', PROBE], options, (error, stdout, stderr) => {
      if (error) {
        reject(new Error(stderr.trim().split('\n').pop() || error.message));
      } else {
        resolve(stdout);
      }
    });
  });
  return JSON.parse(answer) as Contents;
}

/** `~`, `${workspaceFolder}` and `${env:NAME}`, and paths relative to the folder. */
function expand(value: string, folder: vscode.WorkspaceFolder | undefined): string {
  const root = folder?.uri.fsPath ?? '';
  const expanded = value
    .replace(/^~(?=$|\/)/, os.homedir())
    .replace(/\$\{workspaceFolder\}/g, root)
    .replace(/\$\{env:(\w+)\}/g, (_, name: string) => process.env[name] ?? '');
  const isName = !expanded.includes('/'); // `python3.12`: the PATH's
  return isName || path.isAbsolute(expanded) ? expanded : path.join(root, expanded);
}

async function isExecutable(file: string): Promise<boolean> {
  try {
    await fs.access(file, fs.constants.X_OK);
    return (await fs.stat(file)).isFile();
  } catch {
    return false;
  }
}

// --- The Python extension, where there is one ---------------------------------------------
// Cursor, VSCodium and code-server may lack it, so it is not among our dependencies; this is
// the part of its public API that is needed here.

interface PythonExtension {
  readonly environments: {
    getActiveEnvironmentPath(resource?: vscode.Uri): { readonly path: string };
    resolveEnvironment(environment: { readonly path: string }): Promise<
      { readonly executable: { readonly uri?: vscode.Uri } } | undefined
    >;
    readonly onDidChangeActiveEnvironmentPath: vscode.Event<unknown>;
  };
}

async function pythonExtension(): Promise<PythonExtension | undefined> {
  const extension = vscode.extensions.getExtension<PythonExtension>('ms-python.python');
  if (!extension) {
    return undefined;
  }
  try {
    return await extension.activate();
  } catch {
    return undefined; // it says itself what is wrong with it
  }
}

async function chosenInPythonExtension(
  folder: vscode.WorkspaceFolder | undefined,
): Promise<string | undefined> {
  const environments = (await pythonExtension())?.environments;
  if (!environments) {
    return undefined;
  }
  const active = environments.getActiveEnvironmentPath(folder?.uri);
  return (await environments.resolveEnvironment(active))?.executable.uri?.fsPath;
}

/** Calls back when the user chooses another interpreter there. */
export async function onInterpreterChosen(
  callback: () => void,
): Promise<vscode.Disposable | undefined> {
  return (await pythonExtension())?.environments.onDidChangeActiveEnvironmentPath(callback);
}
