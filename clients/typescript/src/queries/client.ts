import type { Dataset, Fields } from "../dataset.js";
import { type Answer, randomId, Transport, type TransportOptions } from "../transport.js";
import { textOf } from "../validation/json.js";
import { Query } from "./query.js";

/** The options of a client for queries and datasets. */
export interface QueryOptions extends TransportOptions {
  /** A personal access token. It begins with `pat_`. Never put it into a web page. */
  readonly token: string;
  /** The slug of the project. */
  readonly project: string;
}

/** A dataset as the management API describes it. */
export interface DatasetInfo {
  readonly id: number;
  readonly slug: string;
  readonly name: string;
  readonly description: string;
  readonly status: "pending_schema" | "active" | "archived";
  readonly is_default: boolean;
  readonly created_at: string;
}

/** The argument of `createDataset`. */
export interface NewDataset {
  readonly name: string;
  readonly slug?: string;
  readonly description?: string;
}

/** The changes of `updateDataset`. */
export interface DatasetChanges extends Partial<NewDataset> {
  readonly archived?: boolean;
  readonly is_default?: boolean;
}

/** The schema that is in force after `register`. */
export interface Registration {
  readonly version: number;
  /** Whether this call has published the version. */
  readonly published: boolean;
}

/** Manages and queries the datasets of a project. */
export class DatasetQueryClient {
  readonly #transport: Transport;
  readonly #project: string;

  constructor(options: QueryOptions) {
    this.#transport = new Transport(options, options.token);
    this.#project = encodeURIComponent(options.project);
  }

  /** Return all datasets of the project, in the order of creation. */
  async listDatasets(): Promise<DatasetInfo[]> {
    const found: DatasetInfo[] = [];
    for (let path: string | null = this.#path(); path !== null; ) {
      const { body }: Answer = await this.#transport.send({ method: "GET", path, isRead: true });
      found.push(...body.datasets);
      path = body.next;
    }
    return found;
  }

  async createDataset(dataset: NewDataset): Promise<DatasetInfo> {
    return this.#send("POST", this.#path(), dataset);
  }

  async updateDataset(id: number, changes: DatasetChanges): Promise<DatasetInfo> {
    return this.#send("PATCH", this.#path(id), changes);
  }

  /** Publish the fields of a dataset as a new schema version if they differ from the schema in force. */
  async register({ id, fields }: Dataset): Promise<Registration> {
    const path = this.#path(id, "schema");
    const { body: before } = await this.#transport.send({ method: "GET", path, datasetId: id, isRead: true });
    const { schema } = await this.#send<{ schema: { version: number } }>("POST", path, { fields });
    return { version: schema.version, published: schema.version !== before.schema?.version };
  }

  /** Begin a query of a dataset. Without `select`, it counts the records. */
  from<F extends Fields>({ id }: Dataset<F>): Query<F, { readonly count: number }, "count"> {
    return new Query(async (query) => {
      const request = {
        method: "POST",
        path: this.#path(id, "query"),
        body: textOf(query),
        datasetId: id,
        isRead: true,
      };
      return (await this.#transport.send(request)).body;
    });
  }

  #path(...parts: readonly (string | number)[]): string {
    return ["/api/datasets", this.#project, ...parts].join("/");
  }

  /** Send a change. If a POST is repeated, the service processes it once. A repeated PATCH changes nothing more. */
  async #send<T>(method: string, path: string, content: object): Promise<T> {
    const request = { method, path, body: textOf(content), idempotencyKey: randomId() };
    return (await this.#transport.send(request)).body;
  }
}
