/** Looks into the store of the running broker, for operators. Nothing is changed; other work goes on meanwhile. */
import type { Effect, Stream } from "effect"
import { Context } from "effect"
import type { Inspection, Verification } from "./ipc/StoreGroup.js"
import type { StoreNotReadable } from "./model/Errors.js"

export class StoreInspection extends Context.Tag("broker/StoreInspection")<
  StoreInspection,
  {
    readonly inspect: Effect.Effect<Inspection, StoreNotReadable>
    /** Reads every record and checks it. */
    readonly verify: Effect.Effect<Verification, StoreNotReadable>
    /**
     * Every sound record of one moment, in key order, as lines of JSON `{"table","key","version","value"}`. Fails when too much
     * is changed before its reader has taken them.
     */
    readonly lines: Effect.Effect<Stream.Stream<string, StoreNotReadable>, StoreNotReadable>
  }
>() {}
