// Custom Script Extension that installs certcast's agent on every instance of a Linux scale set, new ones too.
// The scale set's identity needs: Storage Blob Data Reader on the files, and what docs/deploy.md grants an agent.
// Properties: the README of github.com/Azure/custom-script-extension-linux; identities from version 2.1 on.

@description('Name of the scale set.')
param scaleSetName string

@description('Addresses of install.sh, of requirements-agent.txt and of the certcast wheel, in this order.')
@minLength(3)
@maxLength(3)
param files array

@description('SHA-256 of requirements-agent.txt, as SHA256SUMS has it.')
@minLength(64)
@maxLength(64)
param requirementsSha256 string

@description('SHA-256 of the wheel, as SHA256SUMS has it; no other wheel is installed.')
@minLength(64)
@maxLength(64)
param wheelSha256 string

@description('Client id of the user-assigned identity that reads the files and that the agent uses.')
param identityClientId string

@description('Storage account of certcast.')
param storageAccountName string

@description('Address of the key-encryption key in Key Vault.')
param keyEncryptionKey string

@allowed(['caddy', 'embedded', 'files', 'haproxy', 'nginx'])
@description('The web server on the instances.')
param target string

@description('Uploads for this role and for every role are installed.')
param role string = '*'

@description('Further lines of agent.env, for what is not secret: settings of the target.')
param moreSettings array = []

@description('Change it to run the script again.')
param forceUpdateTag string = ''

var settings = concat([
  'CERTCAST_STORAGE__accountName=${storageAccountName}'
  'CERTCAST_STORAGE__clientId=${identityClientId}'
  'CERTCAST_KEY_ENCRYPTION_KEY=${keyEncryptionKey}'
  'CERTCAST_TARGET=${target}'
  'CERTCAST_ROLE=${role}'
], moreSettings)

// In base64, so that no character of a setting means anything to the shell.
var write = 'mkdir -p /etc/certcast && (umask 077 && echo ${base64('${join(settings, '\n')}\n')} | base64 -d > /etc/certcast/agent.env)'
var install = 'sh install.sh --wheel certcast-*.whl --wheel-sha256 ${wheelSha256} --requirements requirements-agent.txt --requirements-sha256 ${requirementsSha256}'

resource scaleSet 'Microsoft.Compute/virtualMachineScaleSets@2024-07-01' existing = {
  name: scaleSetName
}

resource agent 'Microsoft.Compute/virtualMachineScaleSets/extensions@2024-07-01' = {
  parent: scaleSet
  name: 'certcast-agent'
  properties: {
    publisher: 'Microsoft.Azure.Extensions'
    type: 'CustomScript'
    typeHandlerVersion: '2.1'
    autoUpgradeMinorVersion: true
    forceUpdateTag: forceUpdateTag
    protectedSettings: {
      fileUris: files
      managedIdentity: { clientId: identityClientId }
      commandToExecute: '${write} && ${install}'
    }
  }
}
