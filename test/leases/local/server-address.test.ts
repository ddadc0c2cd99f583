import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError } from '../../../src/errors.ts';
import { checkServerAddress, normalizeHost } from '../../../src/leases/local/server-address.ts';

test('a model server may be where its provider calls from, however that is written', () => {
  const cases: [string, string, string][] = [
    ['http://203.0.113.7:8000', '203.0.113.7', 'http://203.0.113.7:8000'],
    ['http://203.0.113.7:8000/', '::ffff:203.0.113.7', 'http://203.0.113.7:8000'],
    ['https://203.0.113.7', '203.0.113.7', 'https://203.0.113.7'],
    ['http://[2001:db8:0:0::1]:1', '2001:db8::1', 'http://[2001:db8::1]:1'],
    ['http://[::ffff:203.0.113.7]:1', '203.0.113.7', 'http://[::ffff:cb00:7107]:1'],
  ];
  for (const [url, peer, origin] of cases) assert.equal(checkServerAddress(url, peer, []), origin, url);
});

test('it may be nowhere else', () => {
  const urls = [
    'http://127.0.0.1:8000',
    'http://localhost:8000',
    'http://10.0.0.1',
    'http://169.254.169.254',
    'http://203.0.113.7.example:8000',
    'http://203.0.113.8:8000',
    'http://0x7f.1:80',
    'http://[::1]:80',
    'http://user@203.0.113.7:8000',
    'http://u:p@203.0.113.7',
    'http://203.0.113.7:8000/admin',
    'http://203.0.113.7:8000/?x=1',
    'http://203.0.113.7:8000#x',
    'http://203.0.113.7:8000?',
    'file:///etc/passwd',
    'ftp://203.0.113.7',
    'javascript:alert(1)',
    '203.0.113.7:8000',
    '',
  ];
  for (const url of urls) assert.throws(() => checkServerAddress(url, '203.0.113.7', []), AppError, url);
  assert.throws(() => checkServerAddress('http://203.0.113.7:8000', null, []), /a proxy hides where you are/);
});

test('hosts of the configuration take the place of the address that it calls from', () => {
  const hosts = ['GPU1.example', '2001:db8::1', '198.51.100.4'];
  for (const url of [
    'http://gpu1.example:8000',
    'https://gpu1.example',
    'http://[2001:DB8::1]:1',
    'http://198.51.100.4',
  ])
    assert.ok(checkServerAddress(url, null, hosts), url);
  for (const url of ['http://203.0.113.7:8000', 'http://gpu2.example', 'http://sub.gpu1.example'])
    assert.throws(() => checkServerAddress(url, '203.0.113.7', hosts), /among this provider's hosts/, url);
});

test('one spelling per host', () => {
  assert.equal(normalizeHost('[::FFFF:7F00:1]'), '127.0.0.1');
  assert.equal(normalizeHost('Example.COM.'), 'example.com');
  assert.equal(normalizeHost('fe80::1%eth0'), 'fe80::1%eth0');
});
