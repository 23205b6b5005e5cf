import { DatasetError } from "../errors.js";
import type { Transport } from "../transport.js";

// The service stores the records of a dataset in the order of acceptance, so it is enough to keep the latest receipts.
const MAX_RECEIPTS = 100;
const FIRST_PAUSE_MS = 50;
const MAX_PAUSE_MS = 1000;

/** The receipts of accepted requests. */
export class Receipts {
  readonly #transport: Transport;
  readonly #datasetId: number;
  #locations: string[] = [];

  constructor(transport: Transport, datasetId: number) {
    this.#transport = transport;
    this.#datasetId = datasetId;
  }

  add(location: string): void {
    this.#locations.push(location);
    if (this.#locations.length > MAX_RECEIPTS) this.#locations.shift();
  }

  /**
   * Resolve when the records of all receipts are in the table.
   *
   * @throws DatasetError if records are in quarantine, or if the service no longer knows a receipt.
   */
  async stored(): Promise<void> {
    for (const location of [...this.#locations]) await this.#isStored(location);
  }

  async #isStored(location: string): Promise<void> {
    const request = { method: "GET", path: location, datasetId: this.#datasetId, isRead: true };
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(MAX_PAUSE_MS, 2 * pause)) {
      const { body, requestId } = await this.#transport.send(request);
      if (body.status !== "queued") {
        this.#locations = this.#locations.filter((each) => each !== location);
        if (body.status === "stored") return;
        const said = { error: "Records are in quarantine", code: "quarantined" };
        throw new DatasetError(said, { datasetId: this.#datasetId, requestId });
      }
      await this.#transport.sleep(pause);
    }
  }
}
