/** Starts of the durable store in processes that may die of it: a second one has to do. */
import { assert } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { bundled, Child, promised } from "./lmdbStore.js"

export class StoreStarter<A> {
  private child: Child | undefined
  private asked = 0
  /** How many of the processes died. */
  deaths = 0
  private readonly program: string
  private readonly command: "start" | "steps"

  constructor(program: string, command: "start" | "steps") {
    this.program = program
    this.command = command
  }

  /** What the start found, or the one after it. */
  async start(base: string): Promise<A> {
    for (let start = 1; ; start++) {
      this.child ??= new Child(process.execPath, [this.program, this.command])
      const { child } = this
      child.send(base)
      const line = await child.line(this.asked++)
      if (line !== undefined) {
        const started = JSON.parse(line)
        assert.isUndefined(started.error, started.error)
        return started
      }
      this.deaths++
      this.child = undefined
      this.asked = 0
      assert.isBelow(start, 2, `the second start died as well: ${child.stderr}`)
    }
  }

  async stop(): Promise<void> {
    await this.child?.kill()
  }
}

/** `start` says all that is served, `steps` what there is of the steps that `commit` writes. */
export const starter = <A>(command: "start" | "steps"): Effect.Effect<StoreStarter<A>, never, Scope.Scope> =>
  Effect.acquireRelease(
    promised(async () => new StoreStarter<A>(await bundled("test/kit/storeChild.ts"), command)),
    (started) => promised(() => started.stop())
  )
