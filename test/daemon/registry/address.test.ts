import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { classifyAddress } from '../../../src/daemon/registry/address.ts';

describe('the class of an address', () => {
  for (const [expected, addresses] of Object.entries({
    loopback: ['127.0.0.1', '127.255.255.254', '::1', '[::1]', '::ffff:127.0.0.1', '::ffff:7f00:1', '64:ff9b::7f00:1'],
    private: [
      '10.1.2.3',
      '172.16.0.1',
      '172.31.255.255',
      '192.168.1.1',
      'fd00::1',
      '::ffff:10.0.0.1',
      '64:ff9b::10.0.0.1',
    ],
    'link-local': ['169.254.169.254', 'fe80::1', 'fe80::1%eth0', '::ffff:169.254.169.254', '64:ff9b::a9fe:a9fe'],
    shared: ['100.64.0.1', '100.127.255.255'],
    multicast: ['224.0.0.1', '239.255.255.255', 'ff02::1'],
    reserved: [
      '0.0.0.0',
      '::',
      '240.0.0.1',
      '255.255.255.255',
      '198.18.0.1',
      '2002:7f00:1::',
      '::7f00:1',
      'not an address',
      '',
    ],
    public: ['1.1.1.1', '172.32.0.1', '100.128.0.1', '2606:4700::1111', '::ffff:1.1.1.1', '64:ff9b::1.1.1.1'],
  })) {
    it(`is ${expected} for ${addresses.join(' ')}`, () => {
      for (const address of addresses) assert.equal(classifyAddress(address), expected, address);
    });
  }

  it('is that of the IPv4 address for one that is mapped into IPv6 or behind NAT64', () => {
    fc.assert(
      fc.property(fc.ipV4(), (address) => {
        assert.equal(classifyAddress(`::ffff:${address}`), classifyAddress(address));
        assert.equal(classifyAddress(`64:ff9b::${address}`), classifyAddress(address));
      }),
    );
  });
});
