/** One state of the preparation. Sizes are 0 where there is nothing to count. */
export interface Progress {
  readonly step: 'wait' | 'python' | 'download' | 'install' | 'check';
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface ProgressStream {
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
  write(text: string): unknown;
}

export interface ProgressDrawing {
  report(progress: Progress): void;
  /** Ends the line that a bar was drawn on. */
  end(): void;
}

const TITLES: Record<Progress['step'], string> = {
  wait: 'Waiting for another process that prepares the model server',
  python: 'Preparing Python for the model server',
  download: 'Downloading the model and its server',
  install: 'Unpacking the model and its server',
  check: 'Checking the model and its server',
};
const BAR_MAX = 30;
const PLAIN_STEPS = 4;

/** A bar on a terminal; elsewhere a line for each step and each quarter of it, so that logs stay short. */
export function drawProgress(stream: ProgressStream): ProgressDrawing {
  return stream.isTTY ? drawBar(stream) : drawLines(stream);
}

function drawBar(stream: ProgressStream): ProgressDrawing {
  let step: Progress['step'] | null = null;
  return {
    report(progress) {
      if (step !== null && step !== progress.step) stream.write('\n');
      step = progress.step;
      stream.write(`\r\u001B[2K${barLine(progress, stream.columns ?? 80)}`);
    },
    end() {
      if (step !== null) stream.write('\n');
      step = null;
    },
  };
}

function drawLines(stream: ProgressStream): ProgressDrawing {
  let last = '';
  return {
    report(progress) {
      const part = Math.floor(shareOf(progress) * PLAIN_STEPS);
      const key = `${progress.step} ${part}`;
      if (key === last) return;
      last = key;
      stream.write(`${TITLES[progress.step]}${part === 0 ? '' : `: ${amounts(progress)}`}\n`);
    },
    end() {},
  };
}

function barLine(progress: Progress, columns: number): string {
  const title = TITLES[progress.step];
  if (progress.totalBytes === 0) return title.slice(0, columns - 1);
  const share = shareOf(progress);
  const facts = `${Math.floor(share * 100)
    .toString()
    .padStart(3)} %  ${amounts(progress)}`;
  const width = Math.min(BAR_MAX, columns - title.length - facts.length - 7);
  // A line that wraps can't be drawn over.
  if (width < 5) return `${title} ${facts}`.slice(0, columns - 1);
  const full = Math.round(share * width);
  return `${title}  [${'#'.repeat(full)}${'-'.repeat(width - full)}]  ${facts}`;
}

function shareOf(progress: Progress): number {
  return progress.totalBytes === 0 ? 0 : Math.min(1, progress.doneBytes / progress.totalBytes);
}

function amounts(progress: Progress): string {
  const done = Math.min(progress.doneBytes, progress.totalBytes);
  return `${(done / 1e6).toFixed(0)} of ${(progress.totalBytes / 1e6).toFixed(0)} MB`;
}
