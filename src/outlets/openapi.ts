/** The API's document, OpenAPI 3.1, made of the contract. Loaded when somebody asks for it. */
import { z } from 'zod';
import { ArrayRecord } from '../arrays/record.ts';
import { VERSION } from '../version.ts';
import { OPERATIONS, type Operation, Outcome, Problem } from './contract.ts';
import { ArrayStatus, DiskFound, JournalState, NodeStatus, Status } from './status.ts';
import { CloudEvent, StreamMark } from './told.ts';

/** What has a name in the document. */
const NAMED = {
  ArrayRecord,
  ArrayStatus,
  CloudEvent,
  DiskFound,
  JournalState,
  NodeStatus,
  Outcome,
  Problem,
  Status,
  StreamMark,
};

type JsonObject = Record<string, unknown>;

/** @param local as the unix socket serves it; else what the TCP listener has */
export function openApiDocument(local: boolean): JsonObject {
  const names = z.registry<{ id: string }>();
  for (const [id, schema] of Object.entries(NAMED)) names.add(schema, { id });
  const schemas = Object.fromEntries(
    Object.entries(z.toJSONSchema(names, { uri: reference }).schemas).map(([name, schema]) => [name, bare(schema)]),
  );
  const schemaOf = (schema: z.ZodType): JsonObject => {
    const name = Object.entries(NAMED).find(([, named]) => named === schema)?.[0];
    if (name !== undefined) return { $ref: reference(name) };
    if (schema instanceof z.ZodArray && schema.element instanceof z.ZodType) {
      return { type: 'array', items: schemaOf(schema.element) };
    }
    return bare(z.toJSONSchema(schema));
  };
  const paths: Record<string, JsonObject> = {};
  for (const [operationId, operation] of Object.entries<Operation>(OPERATIONS)) {
    if (operation.local === true && !local) continue;
    paths[operation.path] = {
      ...paths[operation.path],
      [operation.method.toLowerCase()]: { operationId, ...described(operation, schemaOf) },
    };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'mdmesh',
      version: VERSION,
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      description: `Sizes are in bytes or 512-byte sectors, as the names say; times in RFC 3339, UTC. ${
        local ? 'Who may open the socket may do everything.' : 'This listener changes nothing.'
      }`,
    },
    servers: [{ url: '/' }],
    ...(local ? {} : { security: [{}, { token: [] }] }),
    paths,
    components: {
      schemas: {
        ...schemas,
        StreamLine: { oneOf: [{ $ref: reference('CloudEvent') }, { $ref: reference('StreamMark') }] },
      },
      ...(local ? {} : { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } }),
    },
  };
}

function reference(name: string): string {
  return `#/components/schemas/${name}`;
}

function described(operation: Operation, schemaOf: (schema: z.ZodType) => JsonObject): JsonObject {
  const { summary, about, params = {}, query, body, answers } = operation;
  const inPath = Object.entries(params).map(([name, description]) => ({
    name,
    in: 'path',
    required: true,
    description,
    schema: { type: 'string' },
  }));
  const inQuery = Object.entries(query?.shape ?? {}).map(([name, schema]) => {
    const { description, ...rest } = bare(z.toJSONSchema(schema, { io: 'input' }));
    return { name, in: 'query', required: false, ...(description === undefined ? {} : { description }), schema: rest };
  });
  const parameters = [...inPath, ...inQuery];
  return {
    summary,
    ...(about === undefined ? {} : { description: about }),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === undefined
      ? {}
      : { requestBody: { required: true, content: { 'application/json': { schema: taken(body) } } } }),
    responses: Object.fromEntries(
      Object.entries(answers).map(([code, answer]) => [
        code,
        {
          description: answer.about,
          ...(answer.headers === undefined ? {} : { headers: headersOf(answer.headers) }),
          content: Object.fromEntries(
            Object.entries(answer.content).map(([type, content]) => [
              type,
              { schema: typeof content === 'string' ? { type: 'string', description: content } : schemaOf(content) },
            ]),
          ),
        },
      ]),
    ),
  };
}

function headersOf(headers: Record<string, string>): JsonObject {
  return Object.fromEntries(
    Object.entries(headers).map(([name, description]) => [name, { description, schema: { type: 'string' } }]),
  );
}

/** A body that comes in: defaults may be left out, and a key that is not there is refused. */
function taken(schema: z.ZodType): JsonObject {
  return bare(
    z.toJSONSchema(schema, {
      io: 'input',
      override: ({ jsonSchema }) => {
        if (jsonSchema.type === 'object') jsonSchema.additionalProperties ??= false;
      },
    }),
  );
}

/** Within the document a schema has neither a dialect nor a name of its own. */
function bare(schema: object): JsonObject {
  const { $schema: _, $id: __, '~standard': ___, ...rest } = { $schema: '', $id: '', '~standard': '', ...schema };
  return rest;
}
