import { SchedulerRecords } from '../../src/scheduler/records.ts';
import { FakeMarket, type Operation } from '../fakes/markets.ts';

/**
 * The end of the process at its n-th effect: a row that is written, or a market that is told to do something. The effect
 * happens, and nobody ever comes to know of it; nothing else of that process happens any more.
 */
export class CrashPoint {
  readonly #at: number;
  #count = 0;
  /** What was being done; null so far. */
  struck: string | null = null;
  #restarted = false;

  constructor(at: number) {
    this.#at = at;
  }

  async after<T>(what: string, effect: () => Promise<T>): Promise<T> {
    if (this.#restarted) return effect();
    if (this.struck !== null) return never();
    this.#count += 1;
    if (this.#count !== this.#at) return effect();
    this.struck = what;
    await effect();
    return never();
  }

  /** The next process meets no crash. */
  restart(): void {
    this.#restarted = true;
  }
}

const never = <T>(): Promise<T> => new Promise(() => undefined);

/** Rows after whose writing the process may be gone. */
export function crashingRecords(point: CrashPoint): typeof SchedulerRecords {
  return class extends SchedulerRecords {
    override saveReplica(...given: Parameters<SchedulerRecords['saveReplica']>): Promise<void> {
      return point.after(`the row of a replica that is ${given[0].state}`, () => super.saveReplica(...given));
    }
    override saveOrder(...given: Parameters<SchedulerRecords['saveOrder']>): Promise<void> {
      return point.after(`the row of an order that is ${given[0].state}`, () => super.saveOrder(...given));
    }
  };
}

/** A market after whose every act the process may be gone. The next process has one of its own over the same world. */
export class CrashingMarket extends FakeMarket {
  readonly #point: CrashPoint;

  constructor(options: ConstructorParameters<typeof FakeMarket>[0], point: CrashPoint) {
    super(options);
    this.#point = point;
  }

  #after<T>(operation: Operation, effect: () => Promise<T>): Promise<T> {
    return this.#point.after(`${this.name} ${operation}`, effect);
  }

  override tender(...given: Parameters<FakeMarket['tender']>): ReturnType<FakeMarket['tender']> {
    return this.#after('tender', () => super.tender(...given));
  }
  override accept(...given: Parameters<FakeMarket['accept']>): ReturnType<FakeMarket['accept']> {
    return this.#after('accept', () => super.accept(...given));
  }
  override cancel(...given: Parameters<FakeMarket['cancel']>): ReturnType<FakeMarket['cancel']> {
    return this.#after('cancel', () => super.cancel(...given));
  }
  override deploy(...given: Parameters<FakeMarket['deploy']>): ReturnType<FakeMarket['deploy']> {
    return this.#after('deploy', () => super.deploy(...given));
  }
  override fund(...given: Parameters<FakeMarket['fund']>): ReturnType<FakeMarket['fund']> {
    return this.#after('fund', () => super.fund(...given));
  }
  override close(...given: Parameters<FakeMarket['close']>): ReturnType<FakeMarket['close']> {
    return this.#after('close', () => super.close(...given));
  }
  override dispute(...given: Parameters<FakeMarket['dispute']>): ReturnType<FakeMarket['dispute']> {
    return this.#after('dispute', () => super.dispute(...given));
  }
}
