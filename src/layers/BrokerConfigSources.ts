/** Settings from the configuration file, the environment and the command line, in rising order of strength. */
import { readFileSync } from "node:fs"
import * as path from "node:path"
import { ConfigError, ConfigProvider, Data, Effect, Layer } from "effect"
import {
  BrokerConfig,
  defaults,
  descriptionOf,
  environmentName,
  type SettingName,
  type Settings,
  settings
} from "../services/BrokerConfig.js"
import { isObject } from "../services/model/Json.js"

const names = Object.keys(settings) as ReadonlyArray<SettingName>

/** A setting is wrong. The message says which, where it was set, to what, and what it must be. */
export class SettingsError extends Data.TaggedError("SettingsError")<{ readonly message: string }> {}

export interface Sources {
  readonly environment: { readonly [name: string]: string | undefined }
  /** Read when it exists; demanded when `isDemanded`. */
  readonly file: { readonly path: string; readonly isDemanded: boolean }
  /** From the command line, by setting name. */
  readonly flags: { readonly [name: string]: string }
}

/** Where a broker with this base directory looks for its settings. */
export const sourcesFor = (base: string, given: Pick<Sources, "environment" | "flags">): Sources => {
  const named = given.environment.MASONS_BROKER_CONFIG
  return {
    environment: given.environment,
    flags: given.flags,
    file: { path: named || path.join(base, "runtime-broker", "config.json"), isDemanded: Boolean(named) }
  }
}

/** Variables of the broker that are no settings: they say where things are. */
const placeVariables = ["CONFIG", "USER_DATA", "CREDENTIALS_FILE", "API_HOST"].map((name) => `MASONS_BROKER_${name}`)

/** Variables that are named like settings and are none: most likely misspelt. They have no effect. */
export const unknownVariables = (environment: Sources["environment"]): ReadonlyArray<string> => {
  const known = new Set([...names.map(environmentName), ...placeVariables])
  return Object.keys(environment).filter((name) => name.startsWith("MASONS_BROKER_") && !known.has(name))
}

interface Given {
  readonly value: unknown
  readonly where: string
}

const isPlain = (value: unknown) => value !== null && typeof value !== "object" && value !== ""
const isSetting = (name: string): name is SettingName => Object.hasOwn(settings, name)

export const read = (sources: Sources): Effect.Effect<Settings, SettingsError> =>
  Effect.gen(function* () {
    const given = new Map<SettingName, Given>()

    for (const [name, value] of Object.entries(yield* fromFile(sources.file))) {
      if (!isSetting(name)) {
        return yield* new SettingsError({
          message: `${sources.file.path} sets "${name}", which is no setting. See docs/settings.md for those there are.`
        })
      }
      given.set(name, { value, where: `"${name}" in ${sources.file.path}` })
    }
    for (const name of names) {
      const value = sources.environment[environmentName(name)]
      if (value !== undefined && value !== "") given.set(name, { value, where: environmentName(name) })
    }
    for (const [name, value] of Object.entries(sources.flags)) {
      if (!isSetting(name)) {
        return yield* new SettingsError({
          message: `"${name}" is no setting. See docs/settings.md for those there are.`
        })
      }
      given.set(name, { value, where: `"${name}" on the command line` })
    }

    // `Config` would take an empty text for one that is not given, and replace it by the default.
    const unfit = Array.from(given.keys()).find((name) => !isPlain(given.get(name)!.value))
    if (unfit !== undefined) return yield* new SettingsError({ message: about(unfit, given) })

    const provider = ConfigProvider.fromMap(new Map(Array.from(given, ([name, { value }]) => [name, String(value)])))
    // Only what is given is read: all of them take some 15 ms of a start.
    const values = yield* Effect.mapError(
      provider.load(descriptionOf(Array.from(given.keys()))),
      (error) => new SettingsError({ message: sentence(error, given) })
    )
    return yield* checkTogether({ ...defaults, ...values })
  })

const fromFile = ({
  isDemanded,
  path: file
}: Sources["file"]): Effect.Effect<{ readonly [name: string]: unknown }, SettingsError> =>
  Effect.suspend(() => {
    const wrong = (reason: string) => new SettingsError({ message: `The configuration file ${file} ${reason}.` })
    let text: string
    try {
      text = readFileSync(file, "utf8")
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      return code === "ENOENT" && !isDemanded
        ? Effect.succeed({})
        : Effect.fail(
            wrong(code === "ENOENT" ? "does not exist; MASONS_BROKER_CONFIG names it" : `cannot be read: ${message}`)
          )
    }
    try {
      const values: unknown = JSON.parse(text)
      return isObject(values) ? Effect.succeed(values) : Effect.fail(wrong("must hold one JSON object"))
    } catch (error) {
      return Effect.fail(wrong(`is not JSON: ${(error as Error).message}`))
    }
  })

const sentence = (error: ConfigError.ConfigError, given: ReadonlyMap<SettingName, Given>): string =>
  ConfigError.reduceWithContext(error, undefined, {
    andCase: (_, left: string) => left,
    orCase: (_, left: string) => left,
    missingDataCase: (_, path) => about(path[0] as SettingName, given),
    invalidDataCase: (_, path) => about(path[0] as SettingName, given),
    sourceUnavailableCase: (_, path) => about(path[0] as SettingName, given),
    unsupportedCase: (_, path) => about(path[0] as SettingName, given)
  })

const about = (name: SettingName, given: ReadonlyMap<SettingName, Given>): string => {
  const { value, where } = given.get(name) ?? { value: "", where: name }
  const shown = typeof value === "object" ? JSON.stringify(value) : `"${value}"`
  return `${where} is ${shown}; it must be ${settings[name].expects}.`
}

const checkTogether = (values: Settings): Effect.Effect<Settings, SettingsError> => {
  const ordered: ReadonlyArray<readonly [SettingName, SettingName]> = [
    ["uncongestedBytes", "congestedBytes"],
    ["nackDelayMs", "nackDelayMaxMs"],
    ["holdBackMs", "holdBackMaxMs"],
    ["backoffMs", "backoffMaxMs"],
    ["pingIntervalMs", "silenceMs"],
    ["leavePlatformMs", "leaveMs"],
    ["headersMs", "bodyMs"]
  ]
  const wrong = ordered.find(([smaller, larger]) => (values[smaller] as number) > (values[larger] as number))
  return wrong === undefined
    ? Effect.succeed(values)
    : Effect.fail(
        new SettingsError({
          message: `"${wrong[0]}" is ${values[wrong[0]]} and "${wrong[1]}" is ${values[wrong[1]]}; the first must not be larger than the second.`
        })
      )
}

export const layer = (sources: Sources): Layer.Layer<BrokerConfig, SettingsError> =>
  Layer.effect(BrokerConfig, read(sources))
