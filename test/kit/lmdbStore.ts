/** The durable store in tests: at a place, in this process or in one that may die. */
import { type ChildProcess, spawn } from "node:child_process"
import { mkdirSync, renameSync } from "node:fs"
import * as path from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { Effect, Layer } from "effect"
import { rolldown } from "rolldown"
import * as StoreLmdb from "../../src/layers/StoreLmdb.js"
import type { Settings } from "../../src/services/BrokerConfig.js"
import { configWith, KeptLog, pathsLayer, pathsUnder } from "./ground.js"

export const storeDirectory = (base: string): string => pathsUnder(base).storeDirectory
export const storeFile = (base: string): string => path.join(storeDirectory(base), "data.mdb")

/** The disk of whoever runs the tests may be as full as it likes. */
export const roomy: Partial<Settings> = { freeDiskBytes: 0 }

export const storeAt = (
  base: string,
  options: StoreLmdb.StoreLmdbOptions = {},
  settings: Partial<Settings> = roomy,
  log = new KeptLog()
) => Layer.fresh(StoreLmdb.layerWith(options)).pipe(Layer.provide([configWith(settings), log.layer, pathsLayer(base)]))

const root = fileURLToPath(new URL("../..", import.meta.url))
const built = new Map<string, Promise<string>>()

/** A program of `src` or `test` as one file that node runs; below the project, where its packages are found. */
export const bundled = (source: string): Promise<string> => {
  const known = built.get(source)
  if (known !== undefined) return known
  const made = (async () => {
    const directory = path.join(root, "node_modules/.cache/runtime-broker-tests")
    mkdirSync(directory, { recursive: true })
    const file = path.join(directory, `${path.basename(source, ".ts")}.mjs`)
    const own = `${file}.${process.pid}`
    const bundle = await rolldown({ input: path.join(root, source), platform: "node", external: ["lmdb"] })
    await bundle.write({ file: own, format: "esm" })
    await bundle.close()
    // Test files that run beside this one make the same.
    renameSync(own, file)
    return file
  })()
  built.set(source, made)
  return made
}

/** A child whose standard output is read line by line. */
export class Child {
  readonly process: ChildProcess
  readonly ended: Promise<string>
  readonly lines: Array<string> = []
  stderr = ""
  private wake: () => void = () => undefined

  constructor(command: string, args: ReadonlyArray<string>, environment: NodeJS.ProcessEnv = {}) {
    this.process = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, ...environment } })
    createInterface({ input: this.process.stdout! }).on("line", (line) => {
      this.lines.push(line)
      this.wake()
    })
    this.process.stderr!.on("data", (data) => {
      this.stderr += data
    })
    this.process.stdin!.on("error", () => undefined)
    this.ended = new Promise((resolve) => {
      this.process.once("close", (code, signal) => {
        this.wake()
        resolve(signal ?? String(code))
      })
    })
  }

  get isRunning(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null
  }

  /** The line number `index`; `undefined` when the child ends without it. */
  async line(index: number): Promise<string | undefined> {
    while (this.lines.length <= index && this.isRunning) {
      await new Promise<void>((resolve) => {
        this.wake = resolve
      })
    }
    if (!this.isRunning) await this.ended
    return this.lines[index]
  }

  /** The first line from number `from` on that is so, and its number. */
  async find(from: number, isIt: (line: string) => boolean): Promise<number> {
    for (let index = from; ; index++) {
      const line = await this.line(index)
      if (line === undefined) throw new Error(`it ended without the line: ${this.lines.slice(-3)} ${this.stderr}`)
      if (isIt(line)) return index
    }
  }

  send(line: string): void {
    this.process.stdin!.write(`${line}\n`)
  }

  async kill(): Promise<void> {
    this.process.kill("SIGKILL")
    await this.ended
  }
}

/** The same numbers for the same seed, uniform in [0, 1). */
export const randomFrom = (seed: number) => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** How often, by the environment: more in a soak. */
export const times = (name: string, fallback: number): number => Number(process.env[name] ?? fallback)

export const promised = <A>(run: () => Promise<A>): Effect.Effect<A> => Effect.promise(run)
