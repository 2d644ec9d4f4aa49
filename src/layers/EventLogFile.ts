/**
 * JSON lines in `broker-<pid>.log`, written in the background, rotated by size; mode 0600. Should the process end of an exception
 * that nobody caught, the last line says of which.
 */
import { appendFileSync, mkdirSync } from "node:fs"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { Cause, Effect, HashMap, Layer, LogLevel as Level, Logger } from "effect"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { EventLog, type LogFields, type LogLevel } from "../services/EventLog.js"
import { Paths } from "../services/Paths.js"
import { processExists } from "./machine/processes.js"

const severity: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 }
const waitingLines = 10_000

export const layer: Layer.Layer<EventLog, never, BrokerConfig | Paths> = Layer.scoped(
  EventLog,
  Effect.gen(function* () {
    const config = yield* BrokerConfig
    const paths = yield* Paths
    const clock = yield* Effect.clock
    const least = severity[config.logLevel]
    let waiting: Array<string> = []
    let dropped = 0
    let writer: Promise<void> | undefined
    let handle: fs.FileHandle | undefined
    let size = 0

    const open = async () => {
      await fs.mkdir(paths.logDirectory, { recursive: true, mode: 0o700 })
      // One that was there may be open to others. Where it is another user's, the files still are not.
      await fs.chmod(paths.logDirectory, 0o700).catch(() => undefined)
      handle = await fs.open(paths.logFile, "a", 0o600)
      await handle.chmod(0o600)
      size = (await handle.stat()).size
      return handle
    }

    const numbered = (n: number) => paths.logFile.replace(/\.log$/, `.${n}.log`)

    const rotate = async () => {
      await handle?.close()
      handle = undefined
      if (config.logFiles === 1) return fs.rm(paths.logFile, { force: true })
      for (let n = config.logFiles - 1; n >= 1; n--) {
        await fs.rename(n === 1 ? paths.logFile : numbered(n - 1), numbered(n)).catch(() => undefined)
      }
    }

    const drain = async () => {
      while (waiting.length > 0) {
        const lines = waiting
        waiting = []
        try {
          const file = handle ?? (await open())
          const text = lines.join("")
          await file.write(text)
          size += Buffer.byteLength(text)
          if (size >= config.logBytes) await rotate()
        } catch {
          // A broker that cannot log goes on brokering; the count says that lines are missing.
          dropped += lines.length
          await handle?.close().catch(() => undefined)
          handle = undefined
        }
      }
      writer = undefined
    }

    const unsafeLog = (level: LogLevel, event: string, fields: LogFields = {}) => {
      if (severity[level] < least) return
      if (waiting.length >= waitingLines) {
        dropped++
        return
      }
      const own = { ts: new Date(clock.unsafeCurrentTimeMillis()).toISOString(), level, pid: process.pid, msg: event }
      try {
        // First by their place, last by their say: fields may carry the same names.
        waiting.push(`${JSON.stringify({ ...own, ...fields, ...own })}\n`)
      } catch {
        // No JSON, a circle for example. Whoever logs it is in the middle of something that matters more.
        dropped++
        return
      }
      writer ??= Promise.resolve().then(drain)
    }

    const onFatal = (error: unknown, origin: string) => {
      unsafeLog("error", "broker_fatal_exit", { origin, reason: String((error as Error)?.stack ?? error) })
      try {
        mkdirSync(paths.logDirectory, { recursive: true, mode: 0o700 })
        appendFileSync(paths.logFile, waiting.splice(0).join(""), { mode: 0o600 })
      } catch {
        // Node prints it as well.
      }
    }
    yield* Effect.acquireRelease(
      Effect.sync(() => process.on("uncaughtExceptionMonitor", onFatal)),
      () => Effect.sync(() => process.off("uncaughtExceptionMonitor", onFatal))
    )
    yield* Effect.addFinalizer(() =>
      Effect.promise(async () => {
        await writer
        await handle?.close().catch(() => undefined)
      }).pipe(Effect.disconnect, Effect.interruptible, Effect.timeoutOption("1 second"))
    )
    yield* Effect.forkScoped(removeOldLogs(paths.logDirectory, clock.unsafeCurrentTimeMillis() - config.logKeepMs))

    return { unsafeLog, unsafeDropped: () => dropped }
  })
)

/** Removes logs of processes that are gone and that nothing was written to since `before`. */
const removeOldLogs = (directory: string, before: number): Effect.Effect<void> =>
  Effect.promise(async () => {
    for (const name of await fs.readdir(directory)) {
      const pid = Number(/^broker-(\d+)(\.\d+)?\.log$/.exec(name)?.[1])
      if (!Number.isInteger(pid) || processExists(pid)) continue
      const file = path.join(directory, name)
      if ((await fs.stat(file)).mtimeMs < before) await fs.rm(file, { force: true })
    }
    // Housekeeping: what fails now is tried again at the next start.
  }).pipe(Effect.ignore)

const levelOf = (level: Level.LogLevel): LogLevel =>
  Level.greaterThanEqual(level, Level.Error)
    ? "error"
    : Level.greaterThanEqual(level, Level.Warning)
      ? "warn"
      : Level.greaterThanEqual(level, Level.Info)
        ? "info"
        : "debug"

/** Effect's own log calls end up in the same file. */
export const effectLogger: Layer.Layer<never, never, EventLog> = Layer.unwrapEffect(
  Effect.map(EventLog, (log) =>
    Logger.replace(
      Logger.defaultLogger,
      Logger.make(({ annotations, cause, logLevel, message }) => {
        const parts = Array.isArray(message) ? message : [message]
        log.unsafeLog(levelOf(logLevel), parts.map(String).join(" "), {
          ...Object.fromEntries(HashMap.toEntries(annotations).map(([key, value]) => [key, String(value)])),
          ...(Cause.isEmptyType(cause) ? {} : { cause: Cause.pretty(cause) })
        })
      })
    )
  )
)
