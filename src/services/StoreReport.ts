/** What was found when the durable store was opened, for status and log: whatever is not there any more is named here. */
import { Context, Data } from "effect"

/** The store cannot be used. The message is a sentence for people: what is wrong and what to do. */
export class StoreError extends Data.TaggedError("StoreError")<{ readonly message: string }> {}

export interface StoreFindings {
  /** Records that are served. */
  readonly records: number
  /** Records that failed their checksum, by table. They are no longer served; their bytes are in `file`. */
  readonly setAside: { readonly [table: string]: number }
  readonly setAsideFile: string | undefined
  /** The store was copied because it was damaged, or because opening it had died. */
  readonly salvaged: SalvageFindings | undefined
  /** Copies of damaged stores that are kept, from this start and earlier ones. */
  readonly damagedCopies: ReadonlyArray<string>
  readonly migrated: number
  /** Size before and after, in bytes, when the start made the store smaller. */
  readonly compacted: { readonly before: number; readonly after: number } | undefined
}

/** A store that was as it should be. */
export const nothingFound = (records: number): StoreFindings => ({
  records,
  setAside: {},
  setAsideFile: undefined,
  salvaged: undefined,
  damagedCopies: [],
  migrated: 0,
  compacted: undefined
})

export interface SalvageFindings {
  readonly reason: string
  /** Records that could not be read; `undefined` when their number is not known. */
  readonly missing: number | undefined
  /** Tables they may have been of. */
  readonly missingFrom: ReadonlyArray<string>
  /** Records found outside of the damaged index; some may have been deleted before. */
  readonly recovered: number
  /** What is wrong with the file, in sentences. */
  readonly problems: ReadonlyArray<string>
  /** Where the damaged store is kept; `undefined` when nothing is missing from the copy. */
  readonly keptAs: string | undefined
}

export class StoreReport extends Context.Tag("broker/StoreReport")<
  StoreReport,
  {
    readonly opened: StoreFindings
    /** Records found damaged since. */
    readonly unsafeDamaged: () => number
  }
>() {}
