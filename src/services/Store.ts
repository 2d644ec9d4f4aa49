/**
 * Durable records, atomically.
 *
 * Services own their tables and put what they decide into the `Transaction` they are given; the stage that took a batch
 * (router, sender, registry, dispatch, outbox) commits it. State is decided in memory in one turn; what the outside sees
 * follows the commit, through `onDurable`.
 */

import type { Effect } from "effect"
import { Context } from "effect"
import type { StoreUnavailable } from "./model/Errors.js"

/** A kind of record. Values are JSON: what `JSON.parse(JSON.stringify(value))` keeps. */
export interface Table<A> {
  /** Unique, lower case. */
  readonly name: string
  /** Raised with every change of the record's shape; the change comes with a migration. */
  readonly version: number
  readonly _A?: (value: A) => A
}

export const table = <A>(name: string, version: number): Table<A> => ({ name, version })

/** ASCII without control characters, 1 to 512 of them; ordered by character code. */
export type Key = string

export type Op =
  | { readonly _tag: "Put"; readonly table: Table<unknown>; readonly key: Key; readonly value: unknown }
  | { readonly _tag: "Delete"; readonly table: Table<unknown>; readonly key: Key }

/** What one turn decided: records to write, and what to tell the outside once they are durable. */
export class Transaction {
  readonly ops: Array<Op> = []
  readonly effects: Array<() => void> = []
  /** Its effects wait for all transactions before it, also when it has no records of its own. */
  isBarrier = false

  put<A>(table: Table<A>, key: Key, value: A): void {
    this.ops.push({ _tag: "Put", table: table as Table<unknown>, key, value })
  }

  delete<A>(table: Table<A>, key: Key): void {
    this.ops.push({ _tag: "Delete", table: table as Table<unknown>, key })
  }

  /** Puts what `other` decided behind what this one did. */
  append(other: Transaction): void {
    for (const op of other.ops) this.ops.push(op)
    for (const effect of other.effects) this.effects.push(effect)
    this.isBarrier ||= other.isBarrier
  }

  /** Runs `effect` once this transaction and all before it are durable. It must not throw. */
  onDurable(effect: () => void): void {
    this.effects.push(effect)
  }
}

export interface KeyRange {
  /** First key, or the key after which to begin when `after` is given instead. */
  readonly from?: Key
  readonly after?: Key
  /** Before this key. */
  readonly until: Key
  readonly limit?: number
  /** So many bytes of records at most, as the store keeps them; the first comes whatever its size. */
  readonly bytes?: number
}

/**
 * What the owner of a table must know of it when it starts, as far as keys tell. A store that reads everything when it opens
 * gathers what it was told of beforehand on the way; anything else it reads when it is asked.
 */
export interface KeySummary<S> {
  /** Its name. */
  readonly table: string
  empty(): S
  /** Takes in a key, which lies in the bytes from `start` up to `end` only for now; they come in order, each once. */
  add(summary: S, bytes: Uint8Array, start: number, end: number): void
}

/** `since` is epoch milliseconds; `reason` says with figures what is wrong, without a full stop. */
export type StoreHealth =
  | { readonly _tag: "Healthy" }
  /** There is too little room for new mail, and none is to be admitted. Commits go on: what is here can leave. */
  | { readonly _tag: "Full"; readonly since: number; readonly reason: string }
  /** Commits fail and are retried, or one has not ended for long. */
  | { readonly _tag: "Failing"; readonly since: number; readonly reason: string }

export class Store extends Context.Tag("broker/Store")<
  Store,
  {
    /**
     * Takes the transaction; transactions become durable whole and in the order of these calls. Those that wait together are
     * one write as far as it stays small, for a write needs room on the disk beside all that is there. `onDurable` effects run in
     * order afterwards. A write that fails is retried, in order, until it succeeds: what was decided stays decided, and the
     * outside waits. A transaction without records runs its effects at once, unless it is a barrier.
     *
     * Look at `unsafeHealth` before taking on new work: what is handed over while the store fails waits in memory, and new mail
     * that is stored while it is full takes the room that all other work needs.
     */
    readonly unsafeCommit: (transaction: Transaction) => void
    /**
     * `unsafeCommit` for work that somebody waits for: the effect is done when the transaction is durable, and fails once the
     * store has been failing for a while. The transaction stays decided then, and is written when the store works again.
     */
    readonly unsafeCommitWithin: (transaction: Transaction) => Effect.Effect<void, StoreUnavailable>
    /** `unsafeCommit`, done when durable. */
    readonly commit: (transaction: Transaction) => Effect.Effect<void>
    /** The durable record. Sees nothing of transactions that are not durable yet. */
    readonly unsafeGet: <A>(table: Table<A>, key: Key) => A | undefined
    /** Durable records in key order. Sees nothing of transactions that are not durable yet. */
    readonly unsafeRange: <A>(table: Table<A>, range: KeyRange) => ReadonlyArray<readonly [Key, A]>
    /** Of the keys that were there when the store was opened. To be asked for once, before the table is changed. */
    readonly unsafeSummary: <S>(summary: KeySummary<S>) => S
    /** How many `unsafeRange` would read, without reading them; damaged records count as well. */
    readonly unsafeCount: <A>(table: Table<A>, range: Pick<KeyRange, "from" | "until">) => number
    readonly unsafeHealth: () => StoreHealth
    /** Done when everything handed over so far is durable. */
    readonly flush: Effect.Effect<void>
  }
>() {}
