/** Built brokers on the development cloud, which runs within the test. */
import { mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Effect } from "effect"
import { type DevCloudOptions, make } from "../../src/layers/devCloud/DevCloudServer.js"
import type { SettingName } from "../../src/services/BrokerConfig.js"
import type { DevAccount, DevCloud } from "../../src/services/DevCloud.js"
import type { Happening } from "../../src/services/devCloud/Journal.js"
import { startBroker, temporaryDirectory } from "./broker.js"

export type Cloud = DevCloud["Type"]
export type Settings = { readonly [Name in SettingName]?: string | number | boolean }

/** A cloud of the test's own; it ends with the test. */
export const startCloud = (options: DevCloudOptions = {}) => make(options).pipe(Effect.orDie)

export const accountOf = (cloud: Cloud, name: string): DevAccount =>
  cloud.accounts.find((account) => account.name === name)!

/** Writes the account's credentials file and returns its path. */
export const credentialsOf = (directory: string, { apiHost, connectorUrl, name, token }: DevAccount): string => {
  mkdirSync(directory, { recursive: true })
  const file = join(directory, `${name}.json`)
  writeFileSync(file, JSON.stringify({ accounts: { [name]: { connectorUrl, token, apiHost } } }), { mode: 0o600 })
  return file
}

/** Timers short enough for a test that has to wait for them. */
export const hasty: Settings = {
  backoffMs: 50,
  backoffMaxMs: 200,
  linkPingMs: 200,
  alreadyConnectedMs: 100,
  gapRetryMs: 200
}

/** A broker for the account. */
export const startCloudBroker = (
  cloud: Cloud,
  name: string,
  settings: Settings = {},
  userData?: string,
  environment: Record<string, string> = {}
) =>
  Effect.gen(function* () {
    const directory = userData ?? (yield* temporaryDirectory)
    const file = credentialsOf(join(directory, "credentials"), accountOf(cloud, name))
    return yield* startBroker({
      userData: directory,
      settings: { connector: "gateway", accountId: name, ...hasty, ...settings },
      environment: { MASONS_BROKER_CREDENTIALS_FILE: file, ...environment }
    })
  })

/** Waits until the account's runtime is registered at the gateway. */
export const untilRegistered = (cloud: Cloud, name: string, since = 0) =>
  cloud.awaitHappening(
    (it) => it.n > since && it.account === name && it.kind === "connection" && it.state === "registered"
  )

/** Waits for a call to the platform that was answered. */
export const untilCalled = (
  cloud: Cloud,
  name: string,
  call: string,
  isIt: (happening: Extract<Happening, { kind: "platform" }>) => boolean = () => true
) =>
  cloud.awaitHappening(
    (it) => it.account === name && it.kind === "platform" && it.call === call && it.status !== null && isIt(it)
  )

/** The platform's calls of an account in order, without those that come by themselves. */
export const callsOf = (cloud: Cloud, name: string) =>
  Effect.map(cloud.happened({ account: name, kind: "platform" }), (happenings) =>
    happenings.flatMap((it) =>
      it.kind === "platform" && !["heartbeat", "whoami", "control_events"].includes(it.call) ? [it] : []
    )
  )
