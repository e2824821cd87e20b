import * as path from 'node:path';
import * as vscode from 'vscode';

/** One search in the answer of `kernelLsp.listRuns` (docs/lsp-extensions.md). */
interface Run {
  readonly run: string;
  readonly uri: string;
  readonly qualname: string;
  readonly status: string;
  readonly decision: string;
  readonly result: string;
  readonly created: number; // seconds since 1970
}

const DECISIONS: Record<string, string> = {
  pending: 'waits for your decision',
  accepted: 'accepted',
  rejected: 'rejected',
  reverted: 'reverted',
};

/** All searches, newest first; the chosen one is opened at its class. */
export async function showSearches(): Promise<void> {
  const answer = await vscode.commands.executeCommand<{ runs: Run[] } | null>('kernelLsp.listRuns');
  if (!answer) {
    return; // the server has said why
  }
  if (answer.runs.length === 0) {
    await vscode.window.showInformationMessage(
      'No searches yet: click "Optimize with CUDA kernel" above an nn.Module.',
    );
    return;
  }
  const items = answer.runs.map((run) => {
    const file = vscode.Uri.parse(run.uri);
    return {
      label: `$(${icon(run)}) ${run.qualname}`,
      description: `${path.basename(file.path)} · ${new Date(run.created * 1000).toLocaleString()}`,
      detail: [run.result, DECISIONS[run.decision]].filter(Boolean).join(' · '),
      run,
    };
  });
  const chosen = await vscode.window.showQuickPick(items, {
    title: 'Kernel searches',
    placeHolder: 'Show ideas and times of …',
    matchOnDescription: true,
  });
  if (!chosen) {
    return;
  }
  const { run, uri, qualname } = chosen.run;
  await vscode.window.showTextDocument(vscode.Uri.parse(uri));
  await vscode.commands.executeCommand('kernelLsp.showRun', { uri, qualname, run });
}

function icon(run: Run): string {
  if (run.status === 'running' || run.status === 'queued') {
    return 'sync';
  }
  const icons: Record<string, string> = { pending: 'question', accepted: 'check', rejected: 'x' };
  return icons[run.decision] ?? 'circle-slash';
}
