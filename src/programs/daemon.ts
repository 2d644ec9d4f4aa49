/** Runs a broker from its settings to its end. */
import { Cause, Data, Effect, Exit, Layer } from "effect"
import * as BrokerConfigSources from "../layers/BrokerConfigSources.js"
import * as DiscoveryFile from "../layers/DiscoveryFile.js"
import * as EventLogFile from "../layers/EventLogFile.js"
import * as InstanceLockFile from "../layers/InstanceLockFile.js"
import { inOrder } from "../layers/inOrder.js"
import { supervised } from "../layers/internal/supervised.js"
import * as LivenessProcess from "../layers/LivenessProcess.js"
import * as PathsUserData from "../layers/PathsUserData.js"
import { AccountCheck } from "../services/AccountCheck.js"
import { BrokerConfig, type Settings } from "../services/BrokerConfig.js"
import { Connector } from "../services/Connector.js"
import type { Credentials, CredentialsError } from "../services/Credentials.js"
import { Discovery } from "../services/Discovery.js"
import { EventLog } from "../services/EventLog.js"
import type { AlreadyRunning } from "../services/InstanceLock.js"
import { IpcServer } from "../services/IpcServer.js"
import { IpcTokens } from "../services/IpcTokens.js"
import { serverVersion } from "../services/ipc/Capabilities.js"
import { version } from "../services/model/Version.js"
import { Paths } from "../services/Paths.js"
import { Shutdown, type ShutdownReason } from "../services/Shutdown.js"
import type { StoreError } from "../services/StoreReport.js"
import { brokerWith, type Variants } from "./Graph.js"
import { leaveWhenIdle } from "./idle.js"
import { keepLock } from "./keepLock.js"
import { leave } from "./leave.js"
import { credentialsFor, variantsFor } from "./variants.js"

/** The broker did not start. The message is for people: what is wrong and what to do. */
export class StartError extends Data.TaggedError("StartError")<{ readonly message: string }> {}

/** What a running broker tells of itself once it can be used. */
export interface Ready {
  readonly version: string
  readonly account: string
  readonly connector: string
  readonly url: string
  readonly pid: number
  readonly discoveryFile: string
  readonly logFile: string
}

/** The identity a broker runs for, and the parts that have variants. */
export interface Parts {
  readonly credentials: Layer.Layer<Credentials, CredentialsError>
  readonly variants: Variants<StoreError>
}

export interface DaemonOptions {
  readonly environment: { readonly [name: string]: string | undefined }
  /** What the broker is made of; unless given, what the settings ask for. */
  readonly parts?: (settings: Settings) => Parts
  /** Settings from the command line. */
  readonly flags: { readonly [name: string]: string }
  readonly onReady: (ready: Ready) => Effect.Effect<void>
  /** The broker begins to leave, which takes no longer than `withinMs`. */
  readonly onLeaving: (reason: ShutdownReason, withinMs: number) => Effect.Effect<void>
}

/** A broker that ends because it cannot work has failed. */
const whyItFailed = (reason: ShutdownReason): Effect.Effect<void, StartError, AccountCheck> =>
  Effect.flatMap(AccountCheck, ({ unsafeRefusal }) => {
    switch (reason) {
      case "credentials":
        return new StartError({ message: unsafeRefusal() ?? "The platform refused the broker's credentials." })
      case "unsupported_protocol":
        return new StartError({
          message: "The gateway speaks another protocol than this broker; install a newer version of runtime-broker."
        })
      default:
        return Effect.void
    }
  })

/** Done when the broker has left. Interruption is a request to leave. */
export const daemon = (options: DaemonOptions): Effect.Effect<void, StartError | AlreadyRunning> =>
  Effect.gen(function* () {
    const base = PathsUserData.baseDirectory(options.environment)
    const settings = yield* BrokerConfigSources.read(BrokerConfigSources.sourcesFor(base, options))
    const { credentials, variants } = options.parts?.(settings) ?? {
      credentials: credentialsFor(settings, options.environment),
      variants: variantsFor(settings)
    }

    const broker = inOrder(
      Layer.succeed(BrokerConfig, settings),
      credentials,
      LivenessProcess.layer,
      PathsUserData.layer(base),
      EventLogFile.layer,
      EventLogFile.effectLogger,
      // Before anything is opened, and until everything is closed.
      InstanceLockFile.layer,
      DiscoveryFile.layer,
      brokerWith(variants)
    )

    const life = Effect.gen(function* () {
      const { url } = yield* IpcServer
      const tokens = yield* IpcTokens
      const connector = (yield* Connector).name
      const paths = yield* Paths
      const log = yield* EventLog
      const unknown = BrokerConfigSources.unknownVariables(options.environment)
      if (unknown.length > 0) log.unsafeLog("warn", "variables_unknown", { variables: unknown })
      yield* (yield* Discovery).publish({ url, bearerToken: tokens.plugin, operatorToken: tokens.operator })
      log.unsafeLog("info", "broker_ready", { url, version: serverVersion(version), connector })
      yield* options.onReady({
        version: serverVersion(version),
        account: settings.accountId,
        connector,
        url,
        pid: process.pid,
        discoveryFile: paths.discoveryFile,
        logFile: paths.logFile
      })
      yield* Effect.forkScoped(leaveWhenIdle)
      yield* keepLock.pipe(supervised("lock"))
      return yield* (yield* Shutdown).requested
    }).pipe(
      Effect.scoped,
      Effect.onExit((exit) => {
        const reason = Exit.match(exit, {
          onSuccess: (requested) => requested,
          onFailure: (cause): ShutdownReason => (Cause.isInterruptedOnly(cause) ? "signal" : "failure")
        })
        return options.onLeaving(reason, settings.leaveMs).pipe(Effect.zipRight(leave(reason)))
      })
    )
    yield* Effect.provide(Effect.flatMap(life, whyItFailed), broker)
  }).pipe(
    Effect.mapError((error) => (error._tag === "AlreadyRunning" ? error : new StartError({ message: error.message })))
  )
