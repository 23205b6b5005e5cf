// The Node service: the same API as an experienced Node developer would write it by hand.
//
// Fastify serves, ajv validates, and one Lua script charges the quota and queues the body. Each process has one
// connection to Redis, over which ioredis sends several commands together. There is one schema and one API key.
//
// Environment
//      API_KEY       the key that clients send
//      PORT          the port to listen on, at 127.0.0.1
//      PREFIX        the beginning of the names of the Redis keys
//      PROCESSES     number of processes that share the port
//      REDIS_SOCKET  the path of Redis's socket
//      SCRIPT        the file of the Lua script

import cluster from 'node:cluster'
import { readFileSync } from 'node:fs'
import Fastify from 'fastify'
import { Redis } from 'ioredis'

const { API_KEY, PORT, PREFIX, PROCESSES, REDIS_SOCKET, SCRIPT } = process.env
const AUTHORIZATION = `Bearer ${API_KEY}`
const KEYS = ['limit', 'total', 'delta', 'stream', 'pending'].map((name) => PREFIX + name)
const MAX_BODY_BYTES = 10 * 1024 * 1024
const MAX_RECORDS = 10_000

const timestamp = { type: 'string', format: 'date-time' }
const properties = {
  timestamp,
  context: { type: 'object' },
  country: { type: 'string' },
  plan: { type: 'string' },
  amount: { type: 'number' },
  active: { type: 'boolean' },
  signup_at: timestamp,
}
const record = { type: 'object', properties, required: Object.keys(properties), additionalProperties: false }
const batch = { type: 'array', items: record, minItems: 1, maxItems: MAX_RECORDS }
// From this, Fastify compiles a serializer that is faster than JSON.stringify.
const accepted = {
  type: 'object',
  properties: { success: { type: 'boolean' }, count: { type: 'integer' }, status: { type: 'string' } },
}

async function serve() {
  const redis = new Redis({ path: REDIS_SOCKET, enableAutoPipelining: true, connectionName: 'service.mjs' })
  redis.defineCommand('charge', { numberOfKeys: KEYS.length, lua: readFileSync(SCRIPT, 'utf8') })

  // By default, ajv converts values and removes unknown fields in Fastify.
  const strict = { coerceTypes: false, removeAdditional: false, useDefaults: false }
  const app = Fastify({ bodyLimit: MAX_BODY_BYTES, ajv: { customOptions: strict } })
  app.decorateRequest('received', '')
  app.removeContentTypeParser('application/json')
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    request.received = body // the body is queued as it came
    try {
      done(null, JSON.parse(body))
    } catch (error) {
      error.statusCode = 400
      done(error)
    }
  })
  app.addHook('onRequest', (request, reply, done) => {
    if (request.headers.authorization === AUTHORIZATION) {
      done()
    } else {
      reply.code(401).send({ error: 'Invalid API key' })
    }
  })

  async function queue(count, request, reply, answer) {
    const [charged] = await redis.charge(KEYS, count, request.received)
    if (!charged) {
      return reply.code(429).send({ error: 'Monthly dataset quota exceeded' })
    }
    return reply.code(202).send(answer)
  }

  const response = { 202: accepted }
  app.post('/datasets/:id', { schema: { body: record, response } }, (request, reply) =>
    queue(1, request, reply, { success: true, status: 'queued' }),
  )
  app.post('/datasets/:id/batch', { schema: { body: batch, response } }, (request, reply) => {
    const count = request.body.length
    return queue(count, request, reply, { success: true, count, status: 'queued' })
  })
  await app.listen({ host: '127.0.0.1', port: Number(PORT), backlog: 4096 })
}

if (cluster.isPrimary) {
  cluster.on('exit', () => process.exit(1))
  for (let process = 0; process < Number(PROCESSES); process++) {
    cluster.fork()
  }
} else {
  await serve()
}
