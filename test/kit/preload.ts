/** Libraries that stand between a program and its disk: written in C, compiled when a test needs them. */
import { spawnSync } from "node:child_process"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { Effect, type Scope } from "effect"
import { ownDirectory } from "./ground.js"

export const works = (command: string, args: ReadonlyArray<string>): boolean =>
  spawnSync(command, args, { stdio: "ignore" }).status === 0

/** Libraries can be compiled, and loaded before a program's own. */
export const canPreload = process.platform === "linux" && works("cc", ["--version"])

/** For the name of a test that is skipped without. */
export const unlessPreloadable = canPreload ? "" : " (skipped: it takes Linux and a C compiler)"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** The library made of this C file of the project, for LD_PRELOAD; gone with the test. */
export const compiled = (source: string): Effect.Effect<string, never, Scope.Scope> =>
  Effect.map(ownDirectory, (directory) => {
    const file = path.join(directory, `${path.basename(source, ".c")}.so`)
    const options = ["-shared", "-fPIC", "-O1", "-pthread", "-o", file]
    const { status, stderr } = spawnSync("cc", [...options, path.join(root, source), "-ldl"], { encoding: "utf8" })
    if (status !== 0) throw new Error(`${source} cannot be compiled: ${stderr}`)
    return file
  })
