/** Where an arriving message goes. The rules of routing, in the order they are asked. */
import type { EndpointId } from "./Ids.js"
import { type Metadata, text } from "./Metadata.js"

/** What routing needs to know of the endpoints registered here. */
export interface RouteView<Endpoint extends RoutableEndpoint> {
  /** The endpoint with this id or alias, active or reconnecting. */
  readonly endpoint: (id: string) => Endpoint | undefined
  /** The endpoints that sent this correlation id, the first to send it first. */
  readonly senders: (correlationId: string) => Iterable<Endpoint>
}

export interface RoutableEndpoint {
  readonly id: EndpointId
  /** The agent it speaks for, where the network tells several apart. */
  readonly agent: string
}

export type RoutePlan<Endpoint extends RoutableEndpoint> =
  | {
      readonly _tag: "Endpoint"
      readonly endpoint: Endpoint
      readonly via: "target" | "correlation"
      /** How many endpoints had a claim; more than one is worth a warning. */
      readonly contenders: number
    }
  /** `unknownTarget` is the endpoint it asked for, unknown here: it may be one that is closed. */
  | { readonly _tag: "Inbox"; readonly unknownTarget: string | undefined }

/**
 * 1. A target the broker knows wins. 2. Else a correlation id some endpoint sent: its first sender, but never the endpoint
 * that sent this very message. 3. Else the inbox.
 *
 * `recipient` is the agent the network delivered it for, where one connection carries several: another agent's endpoint
 * never receives it.
 */
export const plan = <Endpoint extends RoutableEndpoint>(
  metadata: Metadata,
  recipient: string | undefined,
  view: RouteView<Endpoint>
): RoutePlan<Endpoint> => {
  const mayReceive = (endpoint: Endpoint) => recipient === undefined || endpoint.agent === recipient

  const target = text(metadata, "target_endpoint_id")
  if (target !== undefined) {
    const endpoint = view.endpoint(target)
    if (endpoint !== undefined && mayReceive(endpoint)) {
      return { _tag: "Endpoint", endpoint, via: "target", contenders: 1 }
    }
  }

  const correlationId = text(metadata, "correlation_id")
  if (correlationId !== undefined) {
    const source = text(metadata, "source_endpoint_id")
    const sourceId = source === undefined ? undefined : view.endpoint(source)?.id
    let first: Endpoint | undefined
    let contenders = 0
    for (const endpoint of view.senders(correlationId)) {
      if (endpoint.id === sourceId || !mayReceive(endpoint)) continue
      first ??= endpoint
      contenders++
    }
    if (first !== undefined) return { _tag: "Endpoint", endpoint: first, via: "correlation", contenders }
  }

  return { _tag: "Inbox", unknownTarget: target }
}
