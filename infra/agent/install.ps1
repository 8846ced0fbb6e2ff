#Requires -Version 5.1
#Requires -RunAsAdministrator
<#
.SYNOPSIS
Installs certcast's agent as a Windows service, or brings an installed one up to date.

.DESCRIPTION
Puts a 64-bit Python of its own and the package into a folder below Program Files, gives
%ProgramData%\certcast to SYSTEM and Administrators alone, writes agent.toml there, installs the
service and starts it. Running it again changes what has changed.

Nothing is installed under a name that is looked up somewhere: the wheel is the one with the given hash, and
what it needs are the versions and hashes in requirements-agent.txt. `python3 dev.py build` makes both.

.PARAMETER PackageHash
The wheel's SHA-256, as `Get-FileHash` says where it was built.

.PARAMETER Package
The wheel's path; the one certcast-*.whl beside this script by default.

.PARAMETER Requirements
The file with the versions and hashes of what the wheel needs; requirements-agent.txt beside this script by default.

.PARAMETER RequirementsHash
That file's SHA-256; compared where it is given.

.PARAMETER SettingsFile
A file to become agent.toml: lines such as CERTCAST_ROLE = 'web'. The way for anything secret, since
command lines can be read by others.

.PARAMETER Setting
Further settings as NAME=value, for what is not secret; they win over the file's.

.PARAMETER PythonPackage
Path or address of the NuGet package of Python (https://docs.python.org/3/using/windows.html). Its
python.exe must be signed by the Python Software Foundation.

.PARAMETER PythonHash
The SHA-256 of that package; compared where it is given. The signature vouches for python.exe alone, this for all of it.

.PARAMETER InstallFolder
Where Python and the package go.

.EXAMPLE
.\install.ps1 -PackageHash 3F...9A -SettingsFile .\agent.toml

.EXAMPLE
.\install.ps1 -PackageHash 3F...9A -Setting 'CERTCAST_STORAGE__accountName=shopcerts', 'CERTCAST_ROLE=web', 'CERTCAST_TARGET=iis',
    'CERTCAST_KEY_ENCRYPTION_KEY=https://shop.vault.azure.net/keys/certcast'
#>
[CmdletBinding()]
param(
    [Parameter(Mandatory = $true)]
    [ValidatePattern('^[0-9A-Fa-f]{64}$')]
    [string] $PackageHash,
    [string] $Package,
    [string] $Requirements = (Join-Path $PSScriptRoot 'requirements-agent.txt'),
    [ValidatePattern('^([0-9A-Fa-f]{64})?$')]
    [string] $RequirementsHash = '',
    [string] $SettingsFile,
    [string[]] $Setting = @(),
    [string] $PythonPackage = 'https://www.nuget.org/api/v2/package/python/3.13.1',
    [ValidatePattern('^([0-9A-Fa-f]{64})?$')]
    [string] $PythonHash = '',
    [string] $InstallFolder = (Join-Path $env:ProgramFiles 'certcast')
)

Set-StrictMode -Version 2.0
$ErrorActionPreference = 'Stop'
$ProgressPreference = 'SilentlyContinue'   # the bar of Invoke-WebRequest costs most of the download's time
[Net.ServicePointManager]::SecurityProtocol = [Net.ServicePointManager]::SecurityProtocol -bor [Net.SecurityProtocolType]::Tls12

$Service = 'certcast'
$Settings = Join-Path $env:ProgramData 'certcast\agent.toml'
$Python = Join-Path $InstallFolder 'python\tools\python.exe'

if (-not [Environment]::Is64BitProcess) {
    throw 'This is a 32-bit PowerShell, which sees another IIS configuration. Run %SystemRoot%\SysNative\WindowsPowerShell\v1.0\powershell.exe.'
}

function Invoke-Checked([string] $What, [string] $Program, [string[]] $Arguments) {
    & $Program @Arguments
    if ($LASTEXITCODE -ne 0) { throw "$What failed with exit code $LASTEXITCODE." }
}

function Assert-Hash([string] $Path, [string] $Expected) {
    $found = (Get-FileHash -LiteralPath $Path -Algorithm SHA256).Hash
    if ($found -ne $Expected) { throw "$Path has the SHA-256 $found, and not $Expected as given; nothing was installed." }
}

# Copied first, to where only administrators write: what was compared is what is installed.
function Copy-Checked([string] $From, [string] $Expected) {
    $copy = Join-Path $InstallFolder (Split-Path -Leaf $From)
    Copy-Item -LiteralPath $From -Destination $copy -Force
    if ($Expected) { Assert-Hash $copy $Expected }
    return $copy
}

function Install-Python {
    if (Test-Path $Python) { return }
    $archive = Join-Path $InstallFolder ("python-{0}.zip" -f [Guid]::NewGuid())
    $unpacked = Join-Path $InstallFolder ("python-{0}" -f [Guid]::NewGuid())
    try {
        if (Test-Path $PythonPackage) { Copy-Item $PythonPackage $archive }
        else { Invoke-WebRequest -UseBasicParsing -Uri $PythonPackage -OutFile $archive }
        if ($PythonHash) { Assert-Hash $archive $PythonHash }
        Expand-Archive -Path $archive -DestinationPath $unpacked
        $signature = Get-AuthenticodeSignature (Join-Path $unpacked 'tools\python.exe')
        if ($signature.Status -ne 'Valid' -or $signature.SignerCertificate.Subject -notmatch 'Python Software Foundation') {
            throw "python.exe in $PythonPackage is not signed by the Python Software Foundation ($($signature.Status))."
        }
        Move-Item $unpacked (Join-Path $InstallFolder 'python')
    }
    finally {
        Remove-Item -Force -ErrorAction SilentlyContinue $archive
        Remove-Item -Force -Recurse -ErrorAction SilentlyContinue $unpacked
    }
}

function Find-Wheel {
    if ($Package) { return (Resolve-Path -LiteralPath $Package).Path }
    $wheels = @(Get-ChildItem -Path $PSScriptRoot -Filter 'certcast-*.whl')
    if ($wheels.Count -ne 1) { throw "There are $($wheels.Count) wheels certcast-*.whl beside this script: name one with -Package." }
    return $wheels[0].FullName
}

function Write-Settings {
    if (-not $SettingsFile -and $Setting.Count -eq 0) { return }
    $names = @()
    $lines = @()
    foreach ($one in $Setting) {
        $name, $value = $one -split '=', 2
        if ($name -notmatch '^[A-Za-z0-9_]+$' -or $null -eq $value -or $value -match "['\r\n]") {
            throw "Setting '$name' must have the form NAME=value, without an apostrophe in the value."
        }
        $names += $name
        $lines += "$name = '$value'"
    }
    if ($SettingsFile) {
        $kept = Get-Content -Encoding UTF8 $SettingsFile | Where-Object { $names -notcontains ($_ -split '=', 2)[0].Trim() }
        $lines = @($kept) + $lines
    }
    # Without a byte order mark, which TOML does not know; the folder is private by now, and what is made in it too.
    [IO.File]::WriteAllLines($Settings, [string[]] $lines, (New-Object Text.UTF8Encoding $false))
}

New-Item -ItemType Directory -Force $InstallFolder | Out-Null
$wheel = Copy-Checked (Find-Wheel) $PackageHash
$needs = Copy-Checked (Resolve-Path -LiteralPath $Requirements).Path $RequirementsHash
Install-Python
if (Get-Service $Service -ErrorAction SilentlyContinue) { Stop-Service $Service }
Invoke-Checked 'Setting up pip' $Python @('-m', 'ensurepip')
$pip = @('-m', 'pip', 'install', '--disable-pip-version-check', '--isolated', '--only-binary', ':all:')
Invoke-Checked 'Installing what the package needs' $Python ($pip + @('--require-hashes', '--requirement', $needs))
Invoke-Checked 'Installing the package' $Python ($pip + @('--no-deps', '--no-index', '--force-reinstall', $wheel))
Invoke-Checked 'Installing the service' $Python @('-m', 'instance_agent', 'install-service')
Write-Settings
& $Python -m instance_agent selftest --preflight
if ($LASTEXITCODE -ne 0) { Write-Warning 'The preflight found something to put right; see its lines above. The service is started all the same.' }
Start-Service $Service
Get-Service $Service
