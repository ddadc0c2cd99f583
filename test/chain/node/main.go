// A chain of the Cosmos SDK without modules of Akash's: real wallets, fees, grants and blocks for tests on loopback.
package main

import (
	"fmt"
	"io"
	"os"

	runtimev1alpha1 "cosmossdk.io/api/cosmos/app/runtime/v1alpha1"
	appv1alpha1 "cosmossdk.io/api/cosmos/app/v1alpha1"
	authmodulev1 "cosmossdk.io/api/cosmos/auth/module/v1"
	authzmodulev1 "cosmossdk.io/api/cosmos/authz/module/v1"
	bankmodulev1 "cosmossdk.io/api/cosmos/bank/module/v1"
	consensusmodulev1 "cosmossdk.io/api/cosmos/consensus/module/v1"
	distrmodulev1 "cosmossdk.io/api/cosmos/distribution/module/v1"
	feegrantmodulev1 "cosmossdk.io/api/cosmos/feegrant/module/v1"
	genutilmodulev1 "cosmossdk.io/api/cosmos/genutil/module/v1"
	stakingmodulev1 "cosmossdk.io/api/cosmos/staking/module/v1"
	txconfigv1 "cosmossdk.io/api/cosmos/tx/config/v1"
	"cosmossdk.io/core/appconfig"
	"cosmossdk.io/depinject"
	"cosmossdk.io/log"
	_ "cosmossdk.io/x/feegrant/module"
	cmtcfg "github.com/cometbft/cometbft/config"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/cosmos-sdk/client"
	clientconfig "github.com/cosmos/cosmos-sdk/client/config"
	"github.com/cosmos/cosmos-sdk/client/keys"
	"github.com/cosmos/cosmos-sdk/codec"
	codectypes "github.com/cosmos/cosmos-sdk/codec/types"
	"github.com/cosmos/cosmos-sdk/runtime"
	"github.com/cosmos/cosmos-sdk/server"
	servercmd "github.com/cosmos/cosmos-sdk/server/cmd"
	serverconfig "github.com/cosmos/cosmos-sdk/server/config"
	servertypes "github.com/cosmos/cosmos-sdk/server/types"
	sdk "github.com/cosmos/cosmos-sdk/types"
	"github.com/cosmos/cosmos-sdk/types/module"
	_ "github.com/cosmos/cosmos-sdk/x/auth"
	authkeeper "github.com/cosmos/cosmos-sdk/x/auth/keeper"
	_ "github.com/cosmos/cosmos-sdk/x/auth/tx/config"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	_ "github.com/cosmos/cosmos-sdk/x/authz/module"
	_ "github.com/cosmos/cosmos-sdk/x/bank"
	bankkeeper "github.com/cosmos/cosmos-sdk/x/bank/keeper"
	_ "github.com/cosmos/cosmos-sdk/x/consensus"
	_ "github.com/cosmos/cosmos-sdk/x/distribution"
	"github.com/cosmos/cosmos-sdk/x/genutil"
	genutilcli "github.com/cosmos/cosmos-sdk/x/genutil/client/cli"
	genutiltypes "github.com/cosmos/cosmos-sdk/x/genutil/types"
	_ "github.com/cosmos/cosmos-sdk/x/staking"
	"github.com/spf13/cobra"
)

func main() {
	bech32 := sdk.GetConfig()
	bech32.SetBech32PrefixForAccount("akash", "akashpub")
	bech32.SetBech32PrefixForValidator("akashvaloper", "akashvaloperpub")
	bech32.SetBech32PrefixForConsensusNode("akashvalcons", "akashvalconspub")
	bech32.Seal()
	if len(os.Args) > 1 && os.Args[1] == "start" {
		go endWithParent()
	}
	home, err := os.Getwd()
	if err == nil {
		err = servercmd.Execute(rootCommand(home), "", home)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// endWithParent ends the node when whoever started it is gone, even by kill -9: its standard input ends then.
func endWithParent() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func part(name string, config *appv1alpha1.ModuleConfig) *appv1alpha1.ModuleConfig {
	config.Name = name
	return config
}

func appConfig() depinject.Config {
	account := func(name string, permissions ...string) *authmodulev1.ModuleAccountPermission {
		return &authmodulev1.ModuleAccountPermission{Account: name, Permissions: permissions}
	}
	return appconfig.Compose(&appv1alpha1.Config{Modules: []*appv1alpha1.ModuleConfig{
		part("runtime", &appv1alpha1.ModuleConfig{Config: appconfig.WrapAny(&runtimev1alpha1.Module{
			AppName: "node",
			// Forgets the nonces of unordered transactions whose time is over.
			PreBlockers:       []string{"auth"},
			BeginBlockers:     []string{"distribution", "staking", "authz", "ibc"},
			EndBlockers:       []string{"staking", "feegrant"},
			InitGenesis:       []string{"auth", "bank", "distribution", "staking", "genutil", "authz", "feegrant", "consensus", "ibc", "transfer"},
			OverrideStoreKeys: []*runtimev1alpha1.StoreKeyConfig{{ModuleName: "auth", KvStoreKey: "acc"}},
		})}),
		part("auth", &appv1alpha1.ModuleConfig{Config: appconfig.WrapAny(&authmodulev1.Module{
			Bech32Prefix: "akash",
			ModuleAccountPermissions: []*authmodulev1.ModuleAccountPermission{
				account("fee_collector"), account("distribution"),
				account("bonded_tokens_pool", "burner", "staking"), account("not_bonded_tokens_pool", "burner", "staking"),
				account("transfer", "minter", "burner"),
			},
			EnableUnorderedTransactions: true,
		})}),
		part("bank", &appv1alpha1.ModuleConfig{Config: appconfig.WrapAny(&bankmodulev1.Module{})}),
		part("staking", &appv1alpha1.ModuleConfig{Config: appconfig.WrapAny(&stakingmodulev1.Module{
			Bech32PrefixValidator: "akashvaloper", Bech32PrefixConsensus: "akashvalcons",
		})}),
		part("distribution", &appv1alpha1.ModuleConfig{Config: appconfig.WrapAny(&distrmodulev1.Module{})}),
		part("genutil", &appv1alpha1.ModuleConfig{Config: appconfig.WrapAny(&genutilmodulev1.Module{})}),
		part("authz", &appv1alpha1.ModuleConfig{Config: appconfig.WrapAny(&authzmodulev1.Module{})}),
		part("feegrant", &appv1alpha1.ModuleConfig{Config: appconfig.WrapAny(&feegrantmodulev1.Module{})}),
		part("consensus", &appv1alpha1.ModuleConfig{Config: appconfig.WrapAny(&consensusmodulev1.Module{})}),
		part("tx", &appv1alpha1.ModuleConfig{Config: appconfig.WrapAny(&txconfigv1.Config{})}),
	}})
}

func moduleBasics() map[string]module.AppModuleBasic {
	return map[string]module.AppModuleBasic{"genutil": genutil.NewAppModuleBasic(genutiltypes.DefaultMessageValidator)}
}

type app struct{ *runtime.App }

func (a *app) LegacyAmino() *codec.LegacyAmino { return nil }

func (a *app) SimulationManager() *module.SimulationManager { return nil }

func newApp(logger log.Logger, db dbm.DB, trace io.Writer, options servertypes.AppOptions) servertypes.Application {
	var (
		builder  *runtime.AppBuilder
		registry codectypes.InterfaceRegistry
		cdc      codec.Codec
		accounts authkeeper.AccountKeeper
		bank     bankkeeper.Keeper
	)
	config := depinject.Configs(appConfig(), depinject.Supply(logger, options, moduleBasics()))
	if err := depinject.Inject(config, &builder, &registry, &cdc, &accounts, &bank); err != nil {
		panic(err)
	}
	registerAuthorization(registry)
	built := builder.Build(db, trace, server.DefaultBaseappOptions(options)...)
	if err := addIBC(built, cdc, accounts, bank); err != nil {
		panic(err)
	}
	if err := built.Load(true); err != nil {
		panic(err)
	}
	return &app{built}
}

func exportApp(log.Logger, dbm.DB, io.Writer, int64, bool, []string, servertypes.AppOptions, []string) (servertypes.ExportedApp, error) {
	return servertypes.ExportedApp{}, fmt.Errorf("this chain is not exported")
}

func rootCommand(home string) *cobra.Command {
	var (
		cdc      codec.Codec
		registry codectypes.InterfaceRegistry
		txConfig client.TxConfig
		amino    *codec.LegacyAmino
		basics   module.BasicManager
	)
	config := depinject.Configs(appConfig(), depinject.Supply(log.NewNopLogger(), moduleBasics()))
	if err := depinject.Inject(config, &cdc, &registry, &txConfig, &amino, &basics); err != nil {
		panic(err)
	}
	addIBCBasics(basics, registry)
	context := client.Context{}.WithCodec(cdc).WithInterfaceRegistry(registry).WithTxConfig(txConfig).WithLegacyAmino(amino).
		WithInput(os.Stdin).WithAccountRetriever(authtypes.AccountRetriever{}).WithHomeDir(home).WithViper("")
	root := &cobra.Command{
		Use: "node", SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(command *cobra.Command, _ []string) error {
			context := context.WithCmdContext(command.Context())
			context, err := client.ReadPersistentCommandFlags(context, command.Flags())
			if err == nil {
				context, err = clientconfig.ReadFromClientConfig(context)
			}
			if err == nil {
				err = client.SetCmdClientContextHandler(context, command)
			}
			if err != nil {
				return err
			}
			return server.InterceptConfigsPreRunHandler(command, serverconfig.DefaultConfigTemplate, serverconfig.DefaultConfig(), cmtcfg.DefaultConfig())
		},
	}
	root.AddCommand(genutilcli.InitCmd(basics, home), genutilcli.Commands(txConfig, basics, home), keys.Commands())
	server.AddCommands(root, home, newApp, exportApp, func(*cobra.Command) {})
	return root
}
