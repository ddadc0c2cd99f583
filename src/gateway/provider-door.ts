import type {
  BidMessage,
  DisputeAnswerMessage,
  OfferMessage,
  OfferReply,
  ReportMessage,
  TasksQuery,
  TasksReply,
} from '../spec/provider-wire.ts';

/** A provider as the routes know it; what is behind is passed in by the entry. */
export interface JoinedProvider {
  readonly id: string;
  readonly keyHash: string;
  offer(message: OfferMessage, peer: string | null): OfferReply;
  tasks(query: TasksQuery, signal: AbortSignal): Promise<TasksReply>;
  bid(message: BidMessage): void;
  report(leaseId: string, message: ReportMessage, peer: string | null): void;
  answerDispute(id: string, message: DisputeAnswerMessage): Promise<void>;
  leave(session: string): void;
}

export interface ProviderDoor {
  readonly providers: readonly JoinedProvider[];
  /** The address at the other end of the connection; null when it is a proxy's, or not known. */
  peerOf(bindings: unknown): string | null;
}
