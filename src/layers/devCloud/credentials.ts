/** Credentials files of the development cloud's accounts, in the form a broker reads. */
import * as path from "node:path"
import { Effect } from "effect"
import type { DevAccount } from "../../services/DevCloud.js"
import { type SecretFileError, secretDirectory, writeSecretFile } from "../internal/secretFile.js"

/** Writes `<directory>/<account>.json` for every account, for this user only. Answers the files, by account. */
export const writeCredentials = (
  accounts: ReadonlyArray<DevAccount>,
  directory: string
): Effect.Effect<{ readonly [account: string]: string }, SecretFileError> =>
  Effect.gen(function* () {
    yield* secretDirectory(directory)
    const files: Record<string, string> = {}
    for (const { apiHost, connectorUrl, name, token } of accounts) {
      const file = path.join(directory, `${name}.json`)
      const credentials = { accounts: { [name]: { connectorUrl, token, apiHost, handle: name } } }
      yield* writeSecretFile(file, `${JSON.stringify(credentials, null, 2)}\n`)
      files[name] = file
    }
    return files
  })
