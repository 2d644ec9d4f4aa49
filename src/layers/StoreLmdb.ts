/**
 * Records on disk, in one file of an embedded engine. Durable when it says so; opens what a crash, a full disk or a damaged
 * file has left; says what it could not keep.
 */
import { Context, Effect, Layer } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { EventLog } from "../services/EventLog.js"
import { Paths } from "../services/Paths.js"
import { type KeySummary, Store } from "../services/Store.js"
import { StoreInspection } from "../services/StoreInspection.js"
import { type StoreError, type StoreFindings, StoreReport } from "../services/StoreReport.js"
import { groupCommit } from "./internal/groupCommit.js"
import { storedMail } from "./internal/storedMail.js"
import { supervised } from "./internal/supervised.js"
import { makeDriver } from "./lmdb/driver.js"
import { makeInspection } from "./lmdb/inspection.js"
import { type Migrations, migrations } from "./lmdb/migrations.js"
import { openStore } from "./lmdb/openStore.js"
import { freeDisk, Room, type Shortage } from "./lmdb/room.js"
import { copyStore } from "./lmdb/salvage.js"
import { salvageWith } from "./lmdb/salvageProcess.js"

export interface StoreLmdbOptions {
  /** The file of `programs/storeSalvage`. Without it a damaged store is read in this process. */
  readonly salvageProgram?: string
  readonly migrations?: Migrations
  /** Gathered as everything is read at the opening; by default what mailboxes ask for. */
  readonly summaries?: ReadonlyArray<KeySummary<unknown>>
  /** How the room on the disk is told; looked at every `freeDiskMs`. */
  readonly freeDisk?: typeof freeDisk
  readonly freeDiskMs?: number
  /** So much of what is changed during an export is kept for it, in bytes; beyond that it breaks off. */
  readonly snapshotBytes?: number
  /** A file above this size that is mostly free is made smaller at the start. */
  readonly compactAboveBytes?: number
}

const MiB = 2 ** 20
/** A disk that hangs does not keep the broker from leaving. */
const closeMs = 2_000

export const layerWith = (
  options: StoreLmdbOptions = {}
): Layer.Layer<Store | StoreReport | StoreInspection, StoreError, BrokerConfig | EventLog | Paths> =>
  Layer.scopedContext(
    Effect.gen(function* () {
      const { backoffMaxMs, freeDiskBytes, storeWaitMs } = yield* BrokerConfig
      const { storeDirectory: directory } = yield* Paths
      const log = yield* EventLog
      const known = options.migrations ?? migrations
      const free = options.freeDisk ?? freeDisk
      const clock = yield* Effect.clock

      const { engine, findings, summaries } = yield* openStore({
        directory,
        migrations: known,
        summaries: options.summaries ?? [storedMail],
        salvage: options.salvageProgram === undefined ? copyStore : salvageWith(options.salvageProgram),
        compactAboveBytes: options.compactAboveBytes ?? 64 * MiB,
        freeDisk: free,
        freeDiskBytes
      })
      tell(log, findings)
      const room = new Room(directory, freeDiskBytes, () => clock.unsafeCurrentTimeMillis())
      let damaged = 0
      const driver = makeDriver(engine, {
        directory,
        room,
        migrations: known,
        summaries,
        snapshotBytes: options.snapshotBytes ?? 64 * MiB,
        onDamaged: (table) => {
          damaged++
          log.unsafeLog("error", "store_record_damaged", { table })
        }
      })
      yield* Effect.addFinalizer(() =>
        Effect.promise(() => driver.close().catch(() => undefined)).pipe(
          Effect.interruptible,
          Effect.timeoutOption(closeMs)
        )
      )
      const look = Effect.map(
        Effect.promise(() => free(directory)),
        (bytes) => {
          const before = room.shortage()
          room.seen(bytes)
          tellRoom(log, before, room.shortage())
        }
      )
      yield* look
      yield* Effect.delay(look, options.freeDiskMs ?? 1_000).pipe(Effect.forever, supervised("free_disk"))
      const store = yield* groupCommit(driver, log, { base: 100, cap: backoffMaxMs, waitMs: storeWaitMs })
      const report: StoreReport["Type"] = { opened: findings, unsafeDamaged: () => damaged }
      const inspection = makeInspection(driver, directory)
      return Context.make(Store, store).pipe(Context.add(StoreReport, report), Context.add(StoreInspection, inspection))
    })
  )

export const layer = layerWith()

const tellRoom = (log: EventLog["Type"], before: Shortage | undefined, now: Shortage | undefined) => {
  if (before === undefined && now !== undefined) log.unsafeLog("warn", "store_full", { reason: now.reason })
  if (before !== undefined && now === undefined) log.unsafeLog("info", "store_has_room")
}

const tell = (log: EventLog["Type"], findings: StoreFindings) => {
  const { compacted, migrated, salvaged, setAside, setAsideFile } = findings
  if (salvaged !== undefined) {
    const isWhole = salvaged.missing === 0 && Object.keys(setAside).length === 0
    log.unsafeLog(isWhole ? "warn" : "error", "store_salvaged", { ...salvaged })
  }
  if (Object.keys(setAside).length > 0) {
    log.unsafeLog("error", "store_records_set_aside", { tables: setAside, file: setAsideFile })
  }
  if (migrated > 0) log.unsafeLog("info", "store_migrated", { records: migrated })
  if (compacted !== undefined) log.unsafeLog("info", "store_compacted", { ...compacted })
}
