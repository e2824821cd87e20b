import * as path from 'node:path';
import * as vscode from 'vscode';
import type { Target } from './searches';

export const SCHEME = 'kernel-lsp';

/** The answer of `kernelLsp.showDiff` (docs/lsp-extensions.md). */
export interface DiffAnswer {
  readonly run: string;
  readonly original: string;
  readonly modified: string;
  readonly created: readonly string[];
}

/**
 * Read-only documents for what the server wants to show: they belong to a search and not to
 * the user's project, so nobody should edit them, and no language server should look at them.
 */
export class ShownDocuments implements vscode.TextDocumentContentProvider {
  private readonly texts = new Map<string, string>();
  private readonly changed = new vscode.EventEmitter<vscode.Uri>();
  readonly onDidChange = this.changed.event;
  private readonly diffs = new Map<string, Target>(); // by title of the tab

  provideTextDocumentContent(uri: vscode.Uri): string {
    return this.texts.get(uri.toString()) ?? '';
  }

  /** The user's file as it is beside the file with the kernel, and the new files. */
  async showDiff(answer: DiffAnswer, target: Target): Promise<void> {
    const file = vscode.Uri.parse(answer.original);
    const original = await vscode.workspace.openTextDocument(file);
    const name = path.basename(file.path);
    const before = this.put(answer.run, 'original', name, original.getText());
    const modified = vscode.Uri.parse(answer.modified);
    const after = await this.copy(answer.run, name, modified);
    const resources: [vscode.Uri, vscode.Uri | undefined, vscode.Uri][] = [[file, before, after]];
    for (const created of answer.created.map((uri) => vscode.Uri.parse(uri))) {
      const relative = path.relative(path.dirname(modified.path), created.path);
      const shown = await this.copy(answer.run, relative, created);
      resources.push([shown, undefined, shown]);
    }
    const title = `${name}: original ↔ with kernel`;
    this.diffs.set(title, { ...target, run: answer.run });
    await vscode.commands.executeCommand('vscode.changes', title, resources);
  }

  /** What the diff in front is about: a command from the palette is then about the same. */
  shownTarget(): Target | undefined {
    const tab = vscode.window.tabGroups.activeTabGroup.activeTab;
    return tab && this.targetOf(tab);
  }

  /** A page of the server's: markdown as it reads, everything else as text. */
  async showPage(uri: vscode.Uri): Promise<void> {
    const run = path.basename(path.dirname(uri.path));
    const shown = await this.copy(run, path.basename(uri.path), uri);
    if (shown.path.endsWith('.md')) {
      await vscode.commands.executeCommand('markdown.showPreview', shown);
    } else {
      await vscode.window.showTextDocument(shown, { preview: true });
    }
  }

  /** Once there is a decision, nobody needs the diff any more. */
  async closeDiffs(): Promise<void> {
    const tabs = vscode.window.tabGroups.all.flatMap((group) => group.tabs);
    await vscode.window.tabGroups.close(tabs.filter((tab) => this.targetOf(tab)));
    this.diffs.clear();
  }

  /** VS Code has no public type for the tabs of diffs; it puts "(3 files)" behind our title. */
  private targetOf(tab: vscode.Tab): Target | undefined {
    return [...this.diffs].find(([title]) => tab.label.startsWith(title))?.[1];
  }

  private async copy(run: string, name: string, uri: vscode.Uri): Promise<vscode.Uri> {
    const bytes = await vscode.workspace.fs.readFile(uri);
    return this.put(run, 'with kernel', name, Buffer.from(bytes).toString('utf8'));
  }

  /** Both sides have one path: a diff of two paths is drawn as a renamed file. */
  private put(run: string, side: string, name: string, text: string): vscode.Uri {
    const query = `run=${run}&side=${side}`;
    const uri = vscode.Uri.from({ scheme: SCHEME, path: `/${name}`, query });
    this.texts.set(uri.toString(), text);
    this.changed.fire(uri);
    return uri;
  }
}
