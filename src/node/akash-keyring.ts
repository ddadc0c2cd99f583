import type { Clock } from '../clock.ts';
import type { AkashMarketSettings } from '../config/akash.ts';
import { AppError, describeError } from '../errors.ts';
import { RemoteKeyring } from '../leases/akash/chain-signer.ts';
import { OwnKeyring, type Keyring } from '../leases/akash/chain-wallet.ts';
import { walletIndexOf } from '../leases/akash/names.ts';

/**
 * The keys of the market, or the signer that has them.
 * @param pools those that pay from wallets of their own, where the settings want that
 * @throws AppError `setup_failed`, without a word of the key
 */
export async function openKeyring(
  { key, signer, walletPerPool }: Pick<AkashMarketSettings, 'key' | 'signer' | 'walletPerPool'>,
  pools: readonly string[],
  clock: Clock,
): Promise<Keyring> {
  try {
    if (signer !== null) {
      const indexes = walletPerPool ? pools.map(walletIndexOf) : [];
      return await RemoteKeyring.open({ url: signer.url, key: signer.key?.reveal() ?? null, indexes, clock });
    }
    const keyring = await OwnKeyring.open(key?.reveal() ?? '');
    if (walletPerPool && !keyring.derives) {
      throw new Error('wallets: per_pool needs a mnemonic, a single private key derives none');
    }
    return keyring;
  } catch (error) {
    throw new AppError('setup_failed', `the key of the Akash market: ${describeError(error)}`);
  }
}
