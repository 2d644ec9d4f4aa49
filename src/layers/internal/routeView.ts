import type { CorrelationIndex } from "../../services/CorrelationIndex.js"
import type { Directory, Endpoint } from "../../services/Directory.js"
import type { RouteView } from "../../services/model/RoutePlan.js"

/** What routing knows of the endpoints registered here. */
export const routeView = (
  directory: Directory["Type"],
  correlations: CorrelationIndex["Type"]
): RouteView<Endpoint> => ({
  endpoint: directory.unsafeGet,
  senders: function* (correlationId) {
    for (const key of correlations.unsafeSenders(correlationId)) {
      const endpoint = directory.unsafeByKey(key)
      if (endpoint !== undefined) yield endpoint
    }
  }
})
