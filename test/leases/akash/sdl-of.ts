import assert from 'node:assert/strict';
import { gpuKey, type ServiceSpec } from '../../../src/leases/akash/sdl.ts';

/** A service as the SDL that makes it, for chain-sdk. */
export function sdlOf(spec: ServiceSpec): unknown {
  const { volumes, gpus, gpu } = spec;
  // chain-sdk keeps their order, Akash's Go code sorts them.
  const sorted = [...gpu].sort((a, b) => (gpuKey(a) < gpuKey(b) ? -1 : 1));
  const [expose] = spec.expose;
  assert.ok(expose);
  const mounts = volumes.filter(({ mount }) => mount !== null);
  return {
    version: '2.0',
    services: {
      [spec.name]: {
        image: spec.image,
        ...(spec.command.length === 0 ? {} : { command: spec.command }),
        ...(spec.args.length === 0 ? {} : { args: spec.args }),
        ...(spec.env.length === 0 ? {} : { env: spec.env }),
        expose: [
          {
            port: expose.port,
            ...(expose.as === 0 ? {} : { as: expose.as }),
            http_options: { max_body_size: expose.http.maxBodySize },
            to: [{ global: true, ...(expose.ip === undefined ? {} : { ip: expose.ip }) }],
          },
        ],
        ...(spec.credentials === null ? {} : { credentials: spec.credentials }),
        ...(mounts.length === 0
          ? {}
          : {
              params: {
                storage: Object.fromEntries(mounts.map(({ name, mount }) => [name, { mount, readOnly: false }])),
              },
            }),
      },
    },
    profiles: {
      compute: {
        machine: {
          resources: {
            cpu: { units: `${spec.cpuMillis}m` },
            memory: { size: `${spec.memoryBytes / 1024}Ki` },
            storage: volumes.map(({ name, bytes, storageClass }) => ({
              name,
              size: `${bytes / 1024}Ki`,
              ...(storageClass === null
                ? {}
                : { attributes: { class: storageClass, persistent: storageClass !== 'ram' } }),
            })),
            ...(gpus === 0
              ? {}
              : {
                  gpu: {
                    units: gpus,
                    attributes: {
                      vendor: {
                        nvidia: sorted.map(({ model, ram, interface: bus }) => ({
                          model,
                          ...(ram === null ? {} : { ram }),
                          ...(bus === null ? {} : { interface: bus }),
                        })),
                      },
                    },
                  },
                }),
          },
        },
      },
      placement: {
        [spec.group]: {
          attributes: spec.attributes,
          ...(spec.signedBy.anyOf.length === 0 ? {} : { signedBy: { anyOf: spec.signedBy.anyOf } }),
          pricing: { machine: { denom: 'uact', amount: Number(spec.price.amount) } },
        },
      },
    },
    deployment: { [spec.name]: { [spec.group]: { profile: 'machine', count: 1 } } },
    ...(expose.ip === undefined ? {} : { endpoints: { [expose.ip]: { kind: 'ip' } } }),
  };
}
