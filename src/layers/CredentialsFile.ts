/**
 * Credentials from the file `MASONS_BROKER_CREDENTIALS_FILE` names, else from the OpenClaw configuration. Every error is a
 * sentence that says which file, what is wrong in it, and what to do; none repeats a token.
 */
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { Effect, Either, Layer, Redacted } from "effect"
import { Credentials, CredentialsError, type Identity } from "../services/Credentials.js"
import { apiOrigin, defaultApiHost, refuseAddresses } from "../services/model/ApiOrigin.js"
import { isObject } from "../services/model/Json.js"

type Environment = { readonly [name: string]: string | undefined }

interface Account {
  readonly connectorUrl: string
  readonly token: string
  readonly apiHost: string | undefined
  /** Where the fields are, for people. */
  readonly where: string
  readonly apiHostWhere: string
}

interface Unread {
  /** `unsafe`: others could read or replace it. */
  readonly problem: "missing" | "unsafe" | "unreadable" | "malformed"
  /** To complete "the file …". */
  readonly why: string
}

const fileVariable = "MASONS_BROKER_CREDENTIALS_FILE"
const apiHostVariable = "MASONS_BROKER_API_HOST"
const fileBytes = 1024 * 1024

const wrong = (what: string) => new CredentialsError({ message: `The broker has no usable credentials: ${what}.` })
const own = (value: unknown, key: string): unknown =>
  isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined

/** The credentials of the account. */
export const read = (environment: Environment, accountId: string): Effect.Effect<Identity, CredentialsError> =>
  Effect.suspend(() => {
    const file = environment[fileVariable]
    return Either.flatMap(file ? fromFile(file, accountId) : fromOpenClaw(environment, accountId), (account) =>
      identityOf(account, environment, accountId)
    )
  })

export const layer = (environment: Environment, accountId: string): Layer.Layer<Credentials, CredentialsError> =>
  Layer.effect(Credentials, read(environment, accountId))

const identityOf = (
  { apiHost, apiHostWhere, connectorUrl, token, where }: Account,
  environment: Environment,
  accountId: string
): Either.Either<Identity, CredentialsError> => {
  // What else is in it could not be sent in a header.
  if (!/^[\x21-\x7e]+$/.test(token)) {
    return Either.left(
      wrong(`"token" of ${where} has a space, a line break or another character that no token has; copy it again`)
    )
  }
  const origin = apiOrigin(environment[apiHostVariable] || apiHost || defaultApiHost)
  const refusal = refuseAddresses(origin, connectorUrl)
  if (refusal !== undefined) {
    const field =
      refusal.of === "connectorUrl"
        ? `"connectorUrl" of ${where}`
        : environment[apiHostVariable]
          ? `the environment variable ${apiHostVariable}`
          : `"apiHost" of ${apiHostWhere}`
    return Either.left(wrong(`${field} ${refusal.why}`))
  }
  return Either.right({ accountId, runtimeToken: Redacted.make(token), connectorUrl, apiOrigin: origin })
}

const fromFile = (file: string, accountId: string): Either.Either<Account, CredentialsError> =>
  Either.gen(function* () {
    const at = `${file} (named by ${fileVariable})`
    const json = yield* Either.mapLeft(readJson(file), ({ problem, why }) =>
      wrong(problem === "missing" ? `${at} does not exist; write it, or correct the variable` : `${at} ${why}`)
    )
    const shape = `{"accounts": {"${accountId}": {"connectorUrl": "wss://…", "token": "…"}}}`
    if (!isObject(json)) return yield* Either.left(wrong(`${at} must hold one JSON object, such as ${shape}`))
    const accounts = own(json, "accounts")
    if (!isObject(accounts)) {
      return yield* Either.left(
        wrong(`"accounts" in ${at} must be an object with an entry per account, such as ${shape}`)
      )
    }
    const account = own(accounts, accountId)
    if (account === undefined) {
      const there = Object.keys(accounts).slice(0, 20).join(", ") || "<none>"
      return yield* Either.left(
        wrong(
          `${at} has no account "${accountId}" but ${there}; add it, or choose one by MASONS_BROKER_ACCOUNT_ID or --account`
        )
      )
    }
    const where = `account "${accountId}" in ${at}`
    if (!isObject(account)) {
      return yield* Either.left(wrong(`${where} must be an object with "connectorUrl" and "token"`))
    }
    const connectorUrl = own(account, "connectorUrl")
    if (typeof connectorUrl !== "string" || connectorUrl === "") {
      return yield* Either.left(wrong(`"connectorUrl" of ${where} is missing; it is the gateway's wss:// address`))
    }
    const token = own(account, "token")
    if (typeof token !== "string" || token === "") {
      return yield* Either.left(wrong(`"token" of ${where} is missing; it is the runtime token of your agent`))
    }
    const [apiHost, handle] = [own(account, "apiHost"), own(account, "handle")]
    if (apiHost !== undefined && typeof apiHost !== "string") {
      return yield* Either.left(wrong(`"apiHost" of ${where} must be a string; correct it or leave it out`))
    }
    if (handle !== undefined && typeof handle !== "string") {
      return yield* Either.left(wrong(`"handle" of ${where} must be a string; correct it or leave it out`))
    }
    return { connectorUrl, token, apiHost, where, apiHostWhere: where }
  })

const fromOpenClaw = (environment: Environment, accountId: string): Either.Either<Account, CredentialsError> =>
  Either.gen(function* () {
    const home = environment.OPENCLAW_HOME || path.join(environment.HOME || os.homedir(), ".openclaw")
    const file = path.join(home, "openclaw.json")
    const result = readJson(file)
    // A missing or malformed file is an empty configuration; one that others may change is none to rely on.
    if (Either.isLeft(result) && result.left.problem === "unsafe") {
      return yield* Either.left(wrong(`${file} ${result.left.why}`))
    }
    const channel = own(own(Either.getOrUndefined(result), "channels"), "agent-network")
    const account = own(own(channel, "accounts"), accountId)
    const [connectorUrl, token, apiHost] = [
      own(account, "connectorUrl"),
      own(account, "token"),
      own(channel, "apiHost")
    ]
    if (typeof connectorUrl !== "string" || connectorUrl === "" || typeof token !== "string" || token === "") {
      const why = Either.isLeft(result) ? ` (which ${result.left.why})` : ""
      return yield* Either.left(
        wrong(
          `there are none for account "${accountId}" in ${file}${why}; run the setup of your agent, set ${fileVariable} to a ` +
            "credentials file, or start with --connector loopback to run within this machine, without an account"
        )
      )
    }
    return {
      connectorUrl,
      token,
      apiHost: typeof apiHost === "string" ? apiHost : undefined,
      where: `account "${accountId}" in ${file}`,
      apiHostWhere: `the channel "agent-network" in ${file}`
    }
  })

const readJson = (file: string): Either.Either<unknown, Unread> =>
  Either.flatMap(readSecret(file), (text) =>
    Either.try({
      try: (): unknown => JSON.parse(text.replace(/^\ufeff/, "")),
      // The parser's own message may quote the file.
      catch: (): Unread => ({ problem: "malformed", why: "is not JSON; correct it" })
    })
  )

/** True when it worked. */
const closeToOthers = (open: number, mode: number): boolean => {
  try {
    fs.fchmodSync(open, mode & 0o700)
    return true
  } catch {
    return false
  }
}

/** The text of a file that from now on only this user can read and write. */
const readSecret = (file: string): Either.Either<string, Unread> => {
  const unread = (problem: Unread["problem"], why: string) => Either.left<Unread>({ problem, why })
  const { O_NOFOLLOW = 0, O_NONBLOCK = 0, O_RDONLY } = fs.constants
  let open: number | undefined
  try {
    // Without O_NONBLOCK a pipe would be waited for.
    open = fs.openSync(file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
    const stat = fs.fstatSync(open)
    const { mode, size, uid } = stat
    const user = process.getuid?.()
    if (!stat.isFile()) return unread("unreadable", "is not a file; name one")
    if (user !== undefined && uid !== user) {
      return unread("unsafe", `belongs to user ${uid}, not to the broker's user ${user}; run chown ${user} on it`)
    }
    if (user !== undefined && (mode & 0o077) !== 0 && !closeToOthers(open, mode)) {
      return unread("unsafe", `is open to others (mode ${(mode & 0o777).toString(8)}); run chmod 600 on it`)
    }
    if (size > fileBytes) return unread("unreadable", `is larger than ${fileBytes} bytes; name another`)
    return Either.right(fs.readFileSync(open, "utf8"))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === "ENOENT") return unread("missing", "does not exist")
    // So says the system of a link where it was told not to follow one.
    if (code === "ELOOP" || code === "EMLINK")
      return unread("unsafe", "is a symbolic link; name the file itself, or replace the link by it")
    return unread("unreadable", `cannot be read (${code ?? "unknown error"}); let the broker's user read it`)
  } finally {
    if (open !== undefined) fs.closeSync(open)
  }
}
