/**
 * Loaded before Portkey, which listens to every interface and forwards to whatever host a request names: no benchmark
 * opens that to the network.
 */
import { Server } from 'node:net';

const prototype = Server.prototype as { listen: (...args: unknown[]) => unknown };
const { listen } = prototype;

// Of `listen(port, host, listener)` the host is replaced; other ways to call it are left as they are.
prototype.listen = function onLoopback(this: Server, ...args: unknown[]): unknown {
  const [port] = args;
  if (typeof port !== 'number') return listen.call(this, ...args);
  return listen.call(this, { port, host: '127.0.0.1' }, ...args.filter((arg) => typeof arg === 'function'));
};
