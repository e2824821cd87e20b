import * as vscode from 'vscode';
import {
  type ClientCapabilities,
  type FeatureState,
  LanguageClient,
  type LanguageClientOptions,
  type Middleware,
  RevealOutputChannelOn,
  type StaticFeature,
} from 'vscode-languageclient/node';
import { type DiffAnswer, type ShownDocuments } from './documents';
import type { RunningSearches, Target } from './searches';

const SECTION = 'kernel-lsp';

/** The server under an interpreter, and what this editor does better than a plain client. */
export function createClient(
  interpreter: string,
  folder: string,
  log: vscode.LogOutputChannel,
  documents: ShownDocuments,
  searches: RunningSearches,
): LanguageClient {
  const options: LanguageClientOptions = {
    documentSelector: [{ scheme: 'file', language: 'python' }],
    outputChannel: log,
    revealOutputChannelOn: RevealOutputChannelOn.Never, // what a user can mend is a notification
    middleware: middleware(interpreter, documents, searches),
  };
  const server = {
    command: interpreter,
    args: ['-m', 'kernel_lsp', 'serve'],
    // `-m` puts the working folder first on the path: not the user's, whose files could
    // shadow what the server imports.
    options: { cwd: folder },
  };
  const client = new LanguageClient('kernelLsp', 'Kernel LSP', server, options);
  client.registerFeature(new ShowsDiffs());
  return client;
}

/** Tells the server that this client shows diffs itself. */
class ShowsDiffs implements StaticFeature {
  fillClientCapabilities(capabilities: ClientCapabilities): void {
    const known = capabilities.experimental as object | undefined;
    capabilities.experimental = { ...known, kernelLsp: { showDiff: true } };
  }

  getState(): FeatureState {
    return { kind: 'static' };
  }

  initialize(): void {}

  clear(): void {}
}

function middleware(
  interpreter: string,
  documents: ShownDocuments,
  searches: RunningSearches,
): Middleware {
  return {
    executeCommand: async (command, args, next) => {
      const targets = args.length > 0 ? args : atCursor(documents);
      const answer: unknown = await next(command, targets);
      if (command === 'kernelLsp.showDiff' && answer) {
        await documents.showDiff(answer as DiffAnswer, targets[0] as Target);
      } else if (/\.(accept|reject|revert)$/.test(command) && answer) {
        await documents.closeDiffs();
      }
      return answer;
    },
    provideCodeLenses: async (document, token, next) => {
      const lenses = await next(document, token);
      for (const lens of lenses ?? []) {
        searches.note(lens.command?.arguments?.[0] as Target | undefined);
      }
      return lenses;
    },
    handleWorkDoneProgress: (token, params, next) => {
      // The end goes on, so that the client forgets the token.
      if (!searches.report(token, params) || params.kind === 'end') {
        next(token, params);
      }
    },
    window: {
      showDocument: async (params, token, next) => {
        const uri = vscode.Uri.parse(params.uri);
        if (uri.scheme !== 'file' || !/\/shown\/[^/]+\/[^/]+$/.test(uri.path)) {
          return next(params, token);
        }
        await documents.showPage(uri);
        return { success: true };
      },
    },
    workspace: {
      configuration: async (params, token, next) => {
        const values = await next(params, token);
        return Array.isArray(values)
          ? values.map((value: unknown, place) =>
              params.items[place]?.section === SECTION ? settings(interpreter) : value,
            )
          : values;
      },
    },
  };
}

/**
 * The settings that the user changed, and the interpreter as it was found. Defaults are the
 * server's: one that is older than this extension would report what it does not know.
 */
function settings(interpreter: string): object {
  const configuration = vscode.workspace.getConfiguration(SECTION);
  const changed = (prefix: string, section: object): object =>
    Object.fromEntries(
      Object.entries(section).flatMap(([name, value]) => {
        if (value !== null && typeof value === 'object' && !Array.isArray(value)) {
          return [[name, changed(`${prefix}${name}.`, value)]];
        }
        const found = configuration.inspect(prefix + name);
        const isDefault = JSON.stringify(value) === JSON.stringify(found?.defaultValue);
        return isDefault ? [] : [[name, value]];
      }),
    );
  const section = vscode.workspace.getConfiguration().get<object>(SECTION, {});
  return { ...changed('', section), interpreter };
}

/** A command from the palette is about the class at the cursor, or the diff in front. */
function atCursor(documents: ShownDocuments): Target[] {
  const shown = documents.shownTarget();
  if (shown) {
    return [shown];
  }
  const editor = vscode.window.activeTextEditor;
  if (!editor) {
    return [];
  }
  const { line, character } = editor.selection.active;
  return [{ uri: editor.document.uri.toString(), position: { line, character } }];
}
