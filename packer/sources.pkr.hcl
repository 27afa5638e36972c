# Ubuntu 22.04 LTS, from Canonical's own account.
source "amazon-ebs" "appliance" {
  region                 = var.region
  custom_endpoint_ec2    = var.ec2_endpoint
  skip_region_validation = var.ec2_endpoint != ""
  instance_type          = var.instance_type
  subnet_id              = var.subnet_id

  source_ami_filter {
    owners      = ["099720109477"]
    most_recent = true
    filters = {
      name                = "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-*"
      architecture        = "x86_64"
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
  }

  # IMDSv2 alone, while it is baked and afterwards. The rehearsal's Packer knows neither of these two.
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  imds_support = "v2.0"

  launch_block_device_mappings {
    device_name           = "/dev/sda1"
    volume_type           = "gp3"
    volume_size           = var.root_gib
    iops                  = 3000
    throughput            = 125
    encrypted             = true
    delete_on_termination = true
  }

  communicator                          = "ssh"
  ssh_username                          = var.ssh_username
  ssh_host                              = var.ssh_host
  ssh_port                              = var.ssh_port
  ssh_private_key_file                  = var.ssh_private_key_file
  ssh_keypair_name                      = var.ssh_keypair_name
  ssh_timeout                           = "10m"
  temporary_security_group_source_cidrs = var.ssh_cidrs

  ami_name        = var.image_name
  ami_description = "ClassReflect Whisper appliance ${var.processor_version}, ${var.git_revision}"
  tags            = local.tags
  snapshot_tags   = local.tags
  run_tags        = { Name = "classreflect-whisper bake" }
}
