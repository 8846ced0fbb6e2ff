#Requires -Version 5.1
#Requires -RunAsAdministrator
<#
.SYNOPSIS
Installs certcast's agent as a Windows service, or brings an installed one up to date.

.DESCRIPTION
Puts a 64-bit Python of its own and the package into a folder below Program Files, gives
%ProgramData%\certcast to SYSTEM and Administrators alone, writes agent.toml there, installs the
service and starts it. Running it again changes what has changed.

.PARAMETER Package
What pip installs: a wheel's path or a requirement. A wheel named *.whl beside this script is taken by itself.

.PARAMETER SettingsFile
A file to become agent.toml: lines such as CERTCAST_ROLE = 'web'. The way for anything secret, since
command lines can be read by others.

.PARAMETER Setting
Further settings as NAME=value, for what is not secret; they win over the file's.

.PARAMETER PythonPackage
Path or address of the NuGet package of Python (https://docs.python.org/3/using/windows.html). Its
python.exe must be signed by the Python Software Foundation.

.PARAMETER InstallFolder
Where Python and the package go.

.EXAMPLE
.\install.ps1 -SettingsFile .\agent.toml

.EXAMPLE
.\install.ps1 -Setting 'CERTCAST_STORAGE__accountName=shopcerts', 'CERTCAST_ROLE=web', 'CERTCAST_TARGET=iis',
    'CERTCAST_KEY_ENCRYPTION_KEY=https://shop.vault.azure.net/keys/certcast'
#>
[CmdletBinding()]
param(
    [string] $Package,
    [string] $SettingsFile,
    [string[]] $Setting = @(),
    [string] $PythonPackage = 'https://www.nuget.org/api/v2/package/python/3.13.1',
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

function Install-Python {
    if (Test-Path $Python) { return }
    $archive = Join-Path ([IO.Path]::GetTempPath()) ("certcast-python-{0}.zip" -f [Guid]::NewGuid())
    $unpacked = Join-Path $InstallFolder ("python-{0}" -f [Guid]::NewGuid())
    try {
        if (Test-Path $PythonPackage) { Copy-Item $PythonPackage $archive }
        else { Invoke-WebRequest -UseBasicParsing -Uri $PythonPackage -OutFile $archive }
        New-Item -ItemType Directory -Force $InstallFolder | Out-Null
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

function Find-Package {
    if ($Package) { return $Package }
    $wheel = Get-ChildItem -Path $PSScriptRoot -Filter 'certcast-*.whl' | Sort-Object LastWriteTime | Select-Object -Last 1
    if ($wheel) { return '{0}[agent,iis]' -f $wheel.FullName }
    return 'certcast[agent,iis]'
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

if (Get-Service $Service -ErrorAction SilentlyContinue) { Stop-Service $Service }
Install-Python
Invoke-Checked 'Setting up pip' $Python @('-m', 'ensurepip')
Invoke-Checked 'Installing the package' $Python @('-m', 'pip', 'install', '--disable-pip-version-check', '--upgrade', (Find-Package))
Invoke-Checked 'Installing the service' $Python @('-m', 'instance_agent', 'install-service')
Write-Settings
& $Python -m instance_agent selftest --preflight
if ($LASTEXITCODE -ne 0) { Write-Warning 'The preflight found something to put right; see its lines above. The service is started all the same.' }
Start-Service $Service
Get-Service $Service
