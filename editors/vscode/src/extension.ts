import * as vscode from 'vscode';
import type { LanguageClient } from 'vscode-languageclient/node';
import { createClient } from './client';
import { SCHEME, ShownDocuments } from './documents';
import { offerChoice, offerInstallation } from './installation';
import { examine, findInterpreter, onInterpreterChosen } from './interpreter';
import { showSearches } from './runs';
import { RunningSearches } from './searches';

let server: Server | undefined;

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  const own = new Server(context);
  server = own;
  const { registerCommand } = vscode.commands;
  context.subscriptions.push(
    vscode.workspace.registerTextDocumentContentProvider(SCHEME, own.documents),
    registerCommand('kernelLsp.searches', showSearches),
    registerCommand('kernelLsp.runningSearches', () => own.searches.choose()),
    registerCommand('kernelLsp.showLog', () => own.log.show()),
    registerCommand('kernelLsp.restart', () => own.restart(true)),
    vscode.workspace.onDidChangeConfiguration((event) => {
      if (event.affectsConfiguration('kernel-lsp.interpreter')) {
        void own.restart();
      }
    }),
  );
  await own.restart();
  const listener = await onInterpreterChosen(() => void own.restart());
  if (listener) {
    context.subscriptions.push(listener);
  }
}

export async function deactivate(): Promise<void> {
  await server?.stop();
}

/** The language server's life: one process, under the interpreter that was found. */
class Server {
  readonly log = vscode.window.createOutputChannel('Kernel LSP', { log: true });
  readonly documents = new ShownDocuments();
  readonly searches = new RunningSearches();
  private client: LanguageClient | undefined;
  private interpreter = '';
  private readonly offered = new Set<string>(); // interpreters that the user was asked about
  private last: Promise<void> = Promise.resolve();

  constructor(private readonly context: vscode.ExtensionContext) {
    context.subscriptions.push(this.log, this.searches);
  }

  /** Starts the server, anew where the interpreter is another or `always` is set. */
  restart(always = false): Promise<void> {
    // One after the other: settings and the Python extension may both report one change.
    this.last = this.last
      .then(() => this.start(always))
      .catch((error: unknown) => this.log.error(String(error)));
    return this.last;
  }

  async stop(): Promise<void> {
    const client = this.client;
    this.client = undefined;
    this.interpreter = '';
    this.searches.clear();
    await vscode.commands.executeCommand('setContext', 'kernelLsp.running', false);
    try {
      await client?.dispose();
    } catch (error) {
      this.log.warn(`the server was gone already: ${String(error)}`);
    }
  }

  private async start(always: boolean): Promise<void> {
    const document = vscode.window.activeTextEditor?.document.uri;
    const folder =
      (document && vscode.workspace.getWorkspaceFolder(document)) ??
      vscode.workspace.workspaceFolders?.[0];
    const found = await findInterpreter(folder);
    if (found && found.path === this.interpreter && this.client && !always) {
      return;
    }
    await this.stop();
    if (always) {
      this.offered.clear();
    }
    if (!found) {
      this.ask('', () => offerChoice('Kernel LSP found no Python: choose the one with your torch.'));
      return;
    }
    this.log.info(`interpreter: ${found.path} (${found.source})`);
    const { extensionPath } = this.context;
    let contents;
    try {
      contents = await examine(found.path, extensionPath);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.ask(found.path, () => offerChoice(`${found.path} is no Python that runs: ${reason}`));
      return;
    }
    if (!contents.kernelLsp) {
      this.ask(found.path, async () => {
        if (await offerInstallation(found, contents)) {
          await this.restart(true);
        }
      });
      return;
    }
    this.client = createClient(found.path, extensionPath, this.log, this.documents, this.searches);
    this.interpreter = found.path;
    await this.client.start();
    await vscode.commands.executeCommand('setContext', 'kernelLsp.running', true);
  }

  /** Asks once per interpreter; nothing waits for the answer. */
  private ask(interpreter: string, question: () => Promise<void>): void {
    if (!this.offered.has(interpreter)) {
      this.offered.add(interpreter);
      question().catch((error: unknown) => this.log.error(String(error)));
    }
  }
}
