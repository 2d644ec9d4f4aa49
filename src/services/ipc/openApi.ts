/** What of the OpenAPI document the platform gets wrong for this surface. */
import { passedOnStatus } from "../model/Errors.js"

type Reference = { readonly $ref: string }
interface Response {
  description: string
  content?: { "application/json"?: { schema: Reference | { readonly anyOf: ReadonlyArray<Reference> } } }
}
interface Document {
  readonly paths: Record<string, Record<string, { readonly responses: Record<string, Response> }>>
  readonly components: { readonly schemas: Record<string, unknown> }
}

/** The platform's own answer to a request of the wrong shape, and what it is made of. */
const notOurs = ["HttpApiDecodeError", "Issue", "PropertyKey"]
const isOurs = ({ $ref }: Reference) => !notOurs.some((name) => $ref.endsWith(`/${name}`))

/** Requests of the wrong shape are answered with refusals: the platform's answer to them leaves the document. */
export const withoutDecodeError = (json: Record<string, unknown>): Record<string, unknown> => {
  const document = json as unknown as Document
  for (const { responses } of Object.values(document.paths).flatMap((methods) => Object.values(methods))) {
    for (const [status, response] of Object.entries(responses)) {
      const body = response.content?.["application/json"]
      if (body === undefined) continue
      const all = "anyOf" in body.schema ? body.schema.anyOf : [body.schema]
      const ours = all.filter((schema) => schema.$ref === undefined || isOurs(schema))
      if (ours.length === 0) delete responses[status]
      else if (ours.length === 1) body.schema = ours[0]!
      else {
        body.schema = { anyOf: ours }
        response.description = "One of these."
      }
    }
  }
  for (const name of notOurs) delete document.components.schemas[name]
  return json
}

/** Refusals of the platform keep their status: any of 400 to 499, but for those that mean the broker's own credentials. */
export const withPassedOn = (json: Record<string, unknown>): Record<string, unknown> => {
  const document = json as unknown as Document
  for (const { responses } of Object.values(document.paths).flatMap((methods) => Object.values(methods))) {
    const passedOn = responses[passedOnStatus]
    const schema = passedOn?.content?.["application/json"]?.schema
    if (passedOn === undefined || schema === undefined) continue
    delete responses[passedOnStatus]
    for (const [status, response] of Object.entries(responses)) {
      const body = response.content?.["application/json"]
      if (!/^4(?!01|03)/.test(status) || body === undefined) continue
      body.schema = { anyOf: [...("anyOf" in body.schema ? body.schema.anyOf : [body.schema]), schema as Reference] }
      response.description = "One of these."
    }
    responses["4XX"] = passedOn
  }
  return json
}
