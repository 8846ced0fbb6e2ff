// Custom Script Extension that installs certcast's agent on every instance of a Windows scale set, new ones too.
// The scale set's identity needs: Storage Blob Data Reader on the scripts, and what docs/deploy.md grants an agent.
// https://learn.microsoft.com/en-us/azure/virtual-machines/extensions/custom-script-windows

@description('Name of the scale set.')
param scaleSetName string

@description('Addresses of install.ps1, of requirements-agent.txt and of the certcast wheel, in this order.')
@minLength(3)
@maxLength(3)
param files array

@description('SHA-256 of the wheel as Get-FileHash says where it was built; no other wheel is installed.')
@minLength(64)
@maxLength(64)
param packageHash string

@description('SHA-256 of requirements-agent.txt, as SHA256SUMS has it.')
@minLength(64)
@maxLength(64)
param requirementsHash string

@description('Client id of the user-assigned identity that reads the files and that the agent uses.')
param identityClientId string

@description('Storage account of certcast.')
param storageAccountName string

@description('Address of the key-encryption key in Key Vault.')
param keyEncryptionKey string

@description('Uploads for this role and for every role are installed.')
param role string = '*'

@allowed(['keep', 'remove'])
@description('What to do about https bindings without SNI.')
param catchAll string = 'keep'

@description('Change it to run the script again, for a new wheel under the same address.')
param forceUpdateTag string = ''

var settings = [
  'CERTCAST_TARGET=iis'
  'CERTCAST_IIS_CATCH_ALL=${catchAll}'
  'CERTCAST_STORAGE__accountName=${storageAccountName}'
  'CERTCAST_STORAGE__clientId=${identityClientId}'
  'CERTCAST_KEY_ENCRYPTION_KEY=${keyEncryptionKey}'
  'CERTCAST_ROLE=${role}'
]
var quoted = [for setting in settings: '\'${setting}\'']

resource scaleSet 'Microsoft.Compute/virtualMachineScaleSets@2024-07-01' existing = {
  name: scaleSetName
}

resource agent 'Microsoft.Compute/virtualMachineScaleSets/extensions@2024-07-01' = {
  parent: scaleSet
  name: 'certcast-agent'
  properties: {
    publisher: 'Microsoft.Compute'
    type: 'CustomScriptExtension'
    typeHandlerVersion: '1.10'
    autoUpgradeMinorVersion: true
    forceUpdateTag: forceUpdateTag
    protectedSettings: {
      fileUris: files
      managedIdentity: { clientId: identityClientId }
      // -Command and not -File, which would hand over the list of settings as one string.
      commandToExecute: 'powershell -NoProfile -NonInteractive -ExecutionPolicy Bypass -Command "& .\\install.ps1 -PackageHash ${packageHash} -RequirementsHash ${requirementsHash} -Setting ${join(quoted, ',')}"'
    }
  }
}
