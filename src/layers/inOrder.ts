/** Puts layers together that build on each other. */
import { Context, Effect, Layer } from "effect"

type Any = Layer.Layer<never, unknown, unknown>
type Layers = ReadonlyArray<Any>
type Given<All extends Layers> = { [N in keyof All]: Layer.Layer.Success<All[N]> }[number]
type Failure<All extends Layers> = { [N in keyof All]: Layer.Layer.Error<All[N]> }[number]
/** What they need from outside, each having what those before it give. */
type Needed<All extends Layers, Had = never> = All extends readonly [
  infer First extends Any,
  ...infer Rest extends Layers
]
  ? Exclude<Layer.Layer.Context<First>, Had> | Needed<Rest, Had | Layer.Layer.Success<First>>
  : never

/**
 * Layers of which each may use the services of those before it; the services of all of them come out. They are built one after the
 * other and released the other way round. A layer that occurs more than once is built once, as everywhere.
 *
 * The same as a chain of `Layer.provideMerge`, each link of which looks up and copies all that lies below it: that takes several
 * times as long to build.
 */
export const inOrder = <const All extends Layers>(...layers: All): Layer.Layer<Given<All>, Failure<All>, Needed<All>> =>
  Layer.scopedContext(
    Effect.gen(function* () {
      const scope = yield* Effect.scope
      const memoMap = yield* Layer.CurrentMemoMap
      let known = yield* Effect.context<never>()
      let built = Context.empty()
      for (const layer of layers) {
        const services = yield* Effect.provide(Layer.buildWithMemoMap(layer, memoMap, scope), known)
        known = Context.merge(known, services)
        built = Context.merge(built, services)
      }
      return built
    })
  ) as never
