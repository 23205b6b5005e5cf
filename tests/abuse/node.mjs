// With Node's fetch, send bodies that are refused, four at a time. Print how often each status or error came.
const [base, key, dataset, tries] = process.argv.slice(2);
const batch = `/datasets/${dataset}/batch`;
const fits = ' '.repeat(9_500_000);
const cases = [
  [401, 'nonsense', 'application/json', fits, batch],
  [404, key, 'application/json', fits, '/datasets/999999/batch'],
  [415, key, 'text/plain', fits, batch],
  [413, key, 'application/json', fits.repeat(3), batch],
];
const seen = {};
for (const [status, token, type, body, path] of cases) {
  for (let round = 0; round < Number(tries); round++) {
    await Promise.all([0, 1, 2, 3].map(async () => {
      let came;
      try {
        const headers = { authorization: `Bearer ${token}`, 'content-type': type };
        const response = await fetch(base + path, { method: 'POST', body, headers });
        await response.text();
        came = response.status;
      } catch (error) {
        came = error.cause?.code ?? error.message;
      }
      seen[`${status}: ${came}`] = (seen[`${status}: ${came}`] ?? 0) + 1;
    }));
  }
}
console.log(JSON.stringify(seen));
