/** Finding commands, off the event loop's thread. */
import { constants } from "node:fs"
import { access, stat } from "node:fs/promises"
import * as path from "node:path"

export interface Search {
  /** Where paths that are not absolute begin. */
  readonly directory: string
  readonly environment: { readonly [name: string]: string | undefined }
}

/** Where the command is: a name is looked for on the PATH, a path stands for itself. `undefined`: nothing there can be run. */
export const findExecutable = async (
  command: string,
  { directory, environment }: Search
): Promise<string | undefined> => {
  const isWindows = process.platform === "win32"
  const endings = isWindows ? ["", ...(environment.PATHEXT ?? ".COM;.EXE").split(";")] : [""]
  const isPath = command.includes("/") || (isWindows && command.includes("\\"))
  const places = isPath
    ? [path.resolve(directory, command)]
    : (environment.PATH ?? "")
        .split(path.delimiter)
        .filter((place) => path.isAbsolute(place))
        .map((place) => path.join(place, command))
  for (const place of places) {
    for (const ending of endings) if (await isExecutable(place + ending)) return place + ending
  }
  return undefined
}

const isExecutable = async (file: string): Promise<boolean> => {
  try {
    await access(file, constants.X_OK)
    return (await stat(file)).isFile()
  } catch {
    return false
  }
}

export const isDirectory = async (place: string): Promise<boolean> => {
  try {
    return (await stat(place)).isDirectory()
  } catch {
    return false
  }
}
