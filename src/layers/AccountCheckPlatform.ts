/** Asks the platform's whoami until it answers. Refused credentials end the broker. */
import { Deferred, Effect, Layer } from "effect"
import { AccountCheck } from "../services/AccountCheck.js"
import { BrokerConfig } from "../services/BrokerConfig.js"
import { Credentials } from "../services/Credentials.js"
import { EventLog } from "../services/EventLog.js"
import { backoff, delay } from "../services/model/Backoff.js"
import { type Account, wrongSubjectType } from "../services/model/PlatformWire.js"
import { PlatformApi, type PlatformError } from "../services/PlatformApi.js"
import { Shutdown } from "../services/Shutdown.js"
import { supervised } from "./internal/supervised.js"

/** Other refusals may be those of a platform in the middle of a change, or of one that has no whoami. */
const isFinal = ({ code, kind, status }: PlatformError) =>
  kind === "unauthorized" || status === 403 || (kind === "refused" && code === wrongSubjectType)

export const layer: Layer.Layer<AccountCheck, never, PlatformApi | Credentials | Shutdown | BrokerConfig | EventLog> =
  Layer.scoped(
    AccountCheck,
    Effect.gen(function* () {
      const config = yield* BrokerConfig
      const { accountId } = yield* Credentials
      const { whoami } = yield* PlatformApi
      const shutdown = yield* Shutdown
      const log = yield* EventLog
      const named = yield* Deferred.make<Account | undefined>()
      const waits = { base: config.backoffMs, cap: config.backoffMaxMs }
      let refusal: string | undefined

      const refused = (error: PlatformError) =>
        Effect.suspend(() => {
          refusal =
            `The platform refused the credentials of account "${accountId}" (${error.code}: ${error.reason}): ` +
            "renew the token by the setup of your agent, or in your credentials file, and start the broker again."
          log.unsafeLog("error", "account_refused", { code: error.code, status: error.status })
          return shutdown.request("credentials")
        })

      const check = (call: Effect.Effect<Account, PlatformError>) =>
        Effect.gen(function* () {
          let lastCode: string | undefined
          for (let attempt = 0; ; attempt++) {
            const result = yield* Effect.either(call)
            if (result._tag === "Right") {
              log.unsafeLog("info", "account_confirmed", { subject_id: result.right.subjectId, attempt })
              yield* Deferred.succeed(named, result.right)
              return
            }
            const { code, kind, retryAfterMs = 0, status } = result.left
            if (isFinal(result.left)) return yield* refused(result.left)
            const wait = Math.max(delay(waits, attempt, Math.random()), retryAfterMs)
            // An outage is told once, not at each attempt.
            if (code !== lastCode) {
              log.unsafeLog("warn", "account_check_retry", { kind, code, status, attempt, wait_ms: Math.round(wait) })
            }
            lastCode = code
            yield* Effect.sleep(wait)
          }
        })

      if (whoami === undefined) yield* Deferred.succeed(named, undefined)
      else yield* supervised("account_check", backoff(waits, config.healthyMs))(check(whoami))

      return { account: Deferred.await(named), unsafeRefusal: () => refusal }
    })
  )
