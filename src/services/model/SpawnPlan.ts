/** How a session is started for the owner: which command, with what, and how often. */
import { Either } from "effect"

export interface SpawnRequest {
  /** Handed to the session, which presents it when it registers. */
  readonly token: string
  readonly prompt: string
}

/** A command to start. There is no shell: every argument arrives as it stands here. */
export interface SpawnPlan {
  readonly args: ReadonlyArray<string>
  /** Variables it gets beside those of the broker's environment that are passed on. */
  readonly environment: { readonly [name: string]: string }
  /** Written to its standard input; without one that is empty. */
  readonly input: string | undefined
}

/** How sessions of one kind are started. */
export interface SpawnDriver {
  readonly kind: string
  /** A name to look for on the PATH, or a path. */
  readonly command: string
  /** Why it can never be started, as a sentence. */
  readonly unavailable?: string
  /** Variables of the broker's environment its command needs beside the usual: names, or beginnings with `*`. */
  readonly variables: ReadonlyArray<string>
  /** `Left` says why this request cannot be turned into a command. */
  readonly plan: (request: SpawnRequest) => Either.Either<SpawnPlan, string>
}

/** The variable in which a session finds its token. */
export const tokenVariable = "MASONS_SPAWN_TOKEN"

const tokenIn = ({ token }: SpawnRequest) => ({ [tokenVariable]: token })

/** The prompt as an argument: an option's place only where it would be taken for one. */
const asArgument = (prompt: string): Either.Either<ReadonlyArray<string>, string> =>
  prompt.includes("\0")
    ? Either.left("the prompt contains a NUL character, which no argument can hold")
    : Either.right(prompt.startsWith("-") ? ["--", prompt] : [prompt])

/** Claude Code in the background. It takes its prompt as an argument only. */
export const claudeCode = (command: string): SpawnDriver => ({
  kind: "claude-code",
  command,
  ...(/^[A-Za-z0-9._-]+$/.test(command)
    ? {}
    : {
        unavailable: "the command of claude-code must be a plain name of letters, digits, dots, dashes and underscores"
      }),
  variables: ["ANTHROPIC_*", "CLAUDE_*"],
  plan: (request) =>
    Either.map(asArgument(request.prompt), (prompt) => ({
      args: ["--bg", ...prompt],
      environment: tokenIn(request),
      input: undefined
    }))
})

/** Codex cannot be started in the background yet. */
export const codex: SpawnDriver = {
  kind: "codex",
  command: "codex",
  unavailable: "codex sessions cannot be started by the broker",
  variables: [],
  plan: () => Either.left("codex sessions cannot be started by the broker")
}

/**
 * The words of a configured command, from a JSON array: the command, then its arguments, in which `{prompt}` and `{token}` stand
 * for what they name. `undefined` when it is no such array.
 */
export const commandWords = (text: string): readonly [command: string, ...args: Array<string>] | undefined => {
  let words: unknown
  try {
    words = JSON.parse(text)
  } catch {
    return undefined
  }
  const isUsable =
    Array.isArray(words) &&
    words.every((word) => typeof word === "string" && !word.includes("\0")) &&
    words.length > 0 &&
    words[0] !== "" &&
    !/\{(prompt|token)\}/.test(words[0])
  return isUsable ? (words as [string, ...Array<string>]) : undefined
}

/**
 * A command of the owner's choice. The prompt goes to its standard input unless an argument asks for it. An argument that is
 * the prompt and nothing else gets `--` before it when it begins with `-`.
 */
export const customCommand = (
  [command, ...template]: readonly [command: string, ...args: Array<string>],
  variables: ReadonlyArray<string>
): SpawnDriver => ({
  kind: "custom",
  command,
  variables,
  plan: (request) =>
    Either.gen(function* () {
      const args: Array<string> = []
      for (const word of template) {
        if (word === "{prompt}") args.push(...(yield* asArgument(request.prompt)))
        else {
          if (word.includes("{prompt}")) yield* asArgument(request.prompt)
          // In one go: what is put in is not looked at again.
          args.push(
            word.replace(/\{(prompt|token)\}/g, (_, name) => (name === "prompt" ? request.prompt : request.token))
          )
        }
      }
      return {
        args,
        environment: tokenIn(request),
        input: template.some((word) => word.includes("{prompt}")) ? undefined : request.prompt
      }
    })
})

/** The drivers by kind. Two of one kind are a mistake of whoever put them together. */
export const driversByKind = (drivers: ReadonlyArray<SpawnDriver>): ReadonlyMap<string, SpawnDriver> => {
  const byKind = new Map<string, SpawnDriver>()
  for (const driver of drivers) {
    if (byKind.has(driver.kind)) throw new Error(`There are two spawn drivers of kind "${driver.kind}".`)
    byKind.set(driver.kind, driver)
  }
  return byKind
}

// -- environment -------------------------------------------------------------------------------------------------------

const usual = [
  ...["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_*", "TZ", "TMPDIR", "TERM", "XDG_*"],
  ...["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"]
]

/** Without these no program of that system runs. */
const usualOnWindows = [
  ...["SystemRoot", "SystemDrive", "windir", "ComSpec", "PATHEXT", "TEMP", "TMP", "USERPROFILE", "USERNAME"],
  ...["HOMEDRIVE", "HOMEPATH", "APPDATA", "LOCALAPPDATA", "ProgramData", "ProgramFiles"]
]

export type Environment = { readonly [name: string]: string | undefined }

/** What a started command sees: of the broker's environment only what is named here or by its driver. */
export const childEnvironment = (
  broker: Environment,
  { variables }: Pick<SpawnDriver, "variables">,
  { environment }: Pick<SpawnPlan, "environment">,
  platform: string
): { readonly [name: string]: string } => {
  const isWindows = platform === "win32"
  const fold = (name: string) => (isWindows ? name.toUpperCase() : name)
  const wanted = [...usual, ...(isWindows ? usualOnWindows : []), ...variables].map(fold)
  const isWanted = (name: string) =>
    !name.toUpperCase().startsWith("MASONS_BROKER_") &&
    wanted.some((one) => (one.endsWith("*") ? fold(name).startsWith(one.slice(0, -1)) : fold(name) === one))
  const passed = Object.entries(broker).filter(
    (entry): entry is [string, string] => entry[1] !== undefined && isWanted(entry[0])
  )
  return { ...Object.fromEntries(passed), ...environment }
}

// -- rate --------------------------------------------------------------------------------------------------------------

/** At most `limit` spawns in any window of `windowMs`. What was refused does not count. */
export class SpawnRate {
  private times: Array<number> = []
  private readonly limit: number
  private readonly windowMs: number

  constructor(limit: number, windowMs: number) {
    this.limit = limit
    this.windowMs = windowMs
  }

  take(now: number): boolean {
    this.times = this.times.filter((at) => now - at <= this.windowMs)
    if (this.times.length >= this.limit) return false
    this.times.push(now)
    return true
  }
}
