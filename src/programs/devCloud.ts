/** Runs a development cloud until it is interrupted, and says how to use it. */
import { mkdtemp, rm } from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import type { Scope } from "effect"
import { Effect } from "effect"
import { writeCredentials } from "../layers/devCloud/credentials.js"
import * as DevCloudServer from "../layers/devCloud/DevCloudServer.js"
import type { DevAccount } from "../services/DevCloud.js"

export interface DevCloudProgramOptions {
  readonly port: number
  readonly accounts: ReadonlyArray<string>
  /** Where credentials files go, and stay; absent: a directory of its own, gone when the cloud is. */
  readonly directory: string | undefined
  readonly onReady: (ready: DevCloudReady) => Effect.Effect<void>
}

/** What a running development cloud tells of itself. */
export interface DevCloudReady {
  readonly url: string
  readonly accounts: ReadonlyArray<
    Pick<DevAccount, "name" | "address"> & {
      readonly credentialsFile: string
      /** What a broker for this account has in its environment. */
      readonly environment: { readonly [name: string]: string }
    }
  >
}

const temporaryDirectory: Effect.Effect<string, DevCloudServer.DevCloudStartError, Scope.Scope> = Effect.acquireRelease(
  Effect.tryPromise({
    try: () => mkdtemp(path.join(os.tmpdir(), "runtime-broker-dev-cloud-")),
    catch: (error) =>
      new DevCloudServer.DevCloudStartError({
        message: `No directory for the credentials could be made: ${(error as Error).message}.`
      })
  }),
  (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }).catch(() => undefined))
)

/** Ends only by interruption. */
export const devCloud = (options: DevCloudProgramOptions): Effect.Effect<never, DevCloudServer.DevCloudStartError> =>
  Effect.gen(function* () {
    const cloud = yield* DevCloudServer.make(options)
    const directory = options.directory === undefined ? yield* temporaryDirectory : path.resolve(options.directory)
    const files = yield* writeCredentials(cloud.accounts, directory).pipe(
      Effect.mapError(({ message }) => new DevCloudServer.DevCloudStartError({ message }))
    )
    yield* options.onReady({
      url: cloud.url,
      accounts: cloud.accounts.map(({ address, name }) => ({
        name,
        address,
        credentialsFile: files[name]!,
        environment: { MASONS_BROKER_CREDENTIALS_FILE: files[name]!, MASONS_BROKER_ACCOUNT_ID: name }
      }))
    })
    return yield* Effect.never
  }).pipe(Effect.scoped)

/** What to read on a terminal. */
export const describe = ({ accounts, url }: DevCloudReady): ReadonlyArray<string> => [
  `A development cloud is running on ${url}: gateway, platform, and faults to order.`,
  "",
  ...accounts.flatMap(({ address, environment, name }) => [
    `  ${name}, at ${address}. A broker for it:`,
    `    ${Object.entries(environment)
      .map(([variable, value]) => `${variable}=${quoted(value)}`)
      .join(" ")} npx runtime-broker start`,
    ""
  ]),
  `What happened:     curl -s ${url}/dev/happened`,
  `A message:         curl -s ${url}/dev/messages -d '{"account":"${accounts[0]!.name}","content":"hello"}'`,
  `A fault:           curl -s ${url}/dev/faults -d '{"at":"platform","does":"refuse","status":503,"times":3}'`,
  `No more faults:    curl -s -X DELETE ${url}/dev/faults`,
  `Everything else:   curl -s ${url}/dev`,
  "",
  "Stop it with Ctrl-C. What it holds is gone then."
]

/** For a POSIX shell. */
const quoted = (text: string): string =>
  /^[A-Za-z0-9_./:@-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
