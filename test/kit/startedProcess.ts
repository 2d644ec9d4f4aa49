/**
 * Programs as processes of their own. A small process starts them: a test worker is large, and each start out of it copies its
 * page tables and makes it fault on every page afterwards, which takes longer than most programs run.
 */
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import { Effect, type Scope } from "effect"

export interface Exited {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

export interface Command {
  readonly command: string
  readonly args: ReadonlyArray<string>
  readonly env: Record<string, string>
}

type Told =
  | { readonly pid: number }
  | { readonly output: "stdout" | "stderr"; readonly text: string }
  | { readonly code: number | null; readonly signal: NodeJS.Signals | null }

export class StartedProcess {
  pid = 0
  stdout = ""
  stderr = ""
  private exited: Exited | undefined
  private readonly listeners: Array<() => void> = []
  /** Asks the starter not to read what the process prints any more. */
  readonly closeOutputs: () => void

  constructor(closeOutputs: () => void) {
    this.closeOutputs = closeOutputs
  }

  /** Does nothing once it has ended. */
  kill(signal: NodeJS.Signals): void {
    if (this.exited !== undefined) return
    try {
      process.kill(this.pid, signal)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error
    }
  }

  /** Succeeds when it has ended and all it printed is here. */
  readonly ended: Effect.Effect<Exited> = Effect.suspend(() => this.when(() => this.exited))

  /** Its first line; `undefined` when it ended without. */
  readonly firstLine: Effect.Effect<string | undefined> = Effect.map(
    Effect.suspend(() => this.when(() => (this.stdout.includes("\n") ? this.stdout : this.exited?.stdout))),
    (stdout) => (stdout.includes("\n") ? stdout.slice(0, stdout.indexOf("\n")) : undefined)
  )

  hear(told: Told): void {
    if ("pid" in told) this.pid = told.pid
    else if ("output" in told) this[told.output] += told.text
    else this.exited = { ...told, stdout: this.stdout, stderr: this.stderr }
    for (const listener of [...this.listeners]) listener()
  }

  /** What `look` gives once it gives something. */
  when<A>(look: () => A | undefined): Effect.Effect<A> {
    return Effect.async<A>((resume) => {
      const listener = () => {
        const found = look()
        if (found === undefined) return
        forget()
        resume(Effect.succeed(found))
      }
      const forget = () => {
        const at = this.listeners.indexOf(listener)
        if (at >= 0) this.listeners.splice(at, 1)
      }
      this.listeners.push(listener)
      listener()
      return Effect.sync(forget)
    })
  }
}

class Starter {
  private readonly child: ChildProcess = fork(fileURLToPath(new URL("starter.mjs", import.meta.url)))
  private readonly running = new Map<number, StartedProcess>()
  private next = 0

  constructor() {
    this.child.on("message", ({ id, ...told }: Told & { readonly id: number }) => {
      this.running.get(id)!.hear(told)
      if ("code" in told) this.running.delete(id)
    })
    // It does not keep the worker.
    this.child.unref()
    this.child.channel?.unref()
  }

  start(command: Command): StartedProcess {
    const id = this.next++
    const started = new StartedProcess(() => this.child.send({ id, closeOutputs: true }))
    this.running.set(id, started)
    this.child.send({ id, ...command })
    return started
  }

  removeAtEnd(directory: string): void {
    this.child.send({ directory })
  }
}

let running: Starter | undefined
const starter = (): Starter => {
  running ??= new Starter()
  return running
}

/** Removes the directory when the test process has ended, and with it all processes that were started. */
export const removeAtEnd = (directory: string): void => starter().removeAtEnd(directory)

/** A process of that command, started; killed at the end. */
export const startProcess = (command: Command): Effect.Effect<StartedProcess, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.suspend(() => {
      const started = starter().start(command)
      return started.when(() => (started.pid === 0 ? undefined : started))
    }),
    (started) => Effect.sync(() => started.kill("SIGKILL"))
  )

/** One that does nothing but live, to be a plugin's: plugins are told apart, and found dead, by their process. */
export const idleProcess = startProcess({ command: "sleep", args: ["1000"], env: { PATH: process.env.PATH ?? "" } })
