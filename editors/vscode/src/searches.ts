import * as vscode from 'vscode';
import type {
  ProgressToken,
  WorkDoneProgressBegin,
  WorkDoneProgressEnd,
  WorkDoneProgressReport,
} from 'vscode-languageclient/node';

type Progress = WorkDoneProgressBegin | WorkDoneProgressReport | WorkDoneProgressEnd;

/** What every command of the server gets. */
export interface Target {
  readonly uri: string;
  readonly qualname?: string;
  readonly position?: { readonly line: number; readonly character: number };
  readonly run?: string;
}

interface Running {
  readonly run: string;
  readonly title: string;
  message: string;
}

const WIDTH = 80; // characters of the status item's text
const TOKEN = /^kernel-lsp\/([^/]+)\//; // the server's progress tokens name the run

/** The searches that run now, as one item in the status bar; a click stops or shows one. */
export class RunningSearches implements vscode.Disposable {
  private readonly item = vscode.window.createStatusBarItem(
    'kernelLsp.searches',
    vscode.StatusBarAlignment.Left,
    10,
  );
  private readonly running = new Map<ProgressToken, Running>();
  private readonly targets = new Map<string, Target>(); // by run

  constructor() {
    this.item.name = 'Kernel Searches';
    this.item.command = 'kernelLsp.runningSearches';
  }

  /** Takes progress of a search; false for any other, which the editor shows as usual. */
  report(token: ProgressToken, progress: Progress): boolean {
    const run = TOKEN.exec(String(token))?.[1];
    if (run === undefined) {
      return false;
    }
    if (progress.kind === 'end') {
      this.running.delete(token);
    } else if (progress.kind === 'begin') {
      const title = progress.title.replace(/^Optimizing /, '');
      this.running.set(token, { run, title, message: progress.message ?? '' });
    } else {
      const known = this.running.get(token);
      if (known) {
        known.message = progress.message ?? known.message;
      }
    }
    this.draw();
    return true;
  }

  /** Lenses name the file and the class of a run; progress does not. */
  note(target: Target | undefined): void {
    if (target?.run !== undefined) {
      this.targets.set(target.run, target);
    }
  }

  /** The server ended: whatever it reported is over, whether the searches are or not. */
  clear(): void {
    this.running.clear();
    this.draw();
  }

  /** What to do with the running search; the first choice is which, where there are several. */
  async choose(): Promise<void> {
    const searches = [...this.running.values()];
    const search =
      searches.length > 1
        ? (
            await vscode.window.showQuickPick(
              searches.map((one) => ({ label: one.title, detail: one.message, one })),
              { title: 'Kernel searches' },
            )
          )?.one
        : searches[0];
    const target = search && this.targets.get(search.run);
    if (!search || !target) {
      return;
    }
    const actions = [
      { label: '$(list-tree) Show Ideas and Times', command: 'kernelLsp.showRun' },
      { label: '$(file-code) Show Best Kernel So Far', command: 'kernelLsp.showKernel' },
      { label: '$(debug-stop) Stop the Search', command: 'kernelLsp.stop' },
    ];
    const action = await vscode.window.showQuickPick(actions, {
      title: search.title,
      placeHolder: search.message,
    });
    if (action) {
      await vscode.commands.executeCommand(action.command, target);
    }
  }

  dispose(): void {
    this.item.dispose();
  }

  private draw(): void {
    const searches = [...this.running.values()];
    if (searches.length === 0) {
      this.item.hide();
      return;
    }
    const [first] = searches;
    const text = searches.length > 1 ? `${searches.length} searches` : label(first);
    this.item.text = `$(sync~spin) ${text.length > WIDTH ? `${text.slice(0, WIDTH - 1)}…` : text}`;
    this.item.tooltip = [...searches.map(label), 'Click to show or stop.'].join('\n');
    this.item.show();
  }
}

function label(search: Running): string {
  return [search.title, search.message].filter(Boolean).join(' · ');
}
