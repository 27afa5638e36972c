# What goes in. `make ami` and `make image` fill these in; see ops/images/bake.py.

variable "region" {
  type        = string
  description = "AWS region of the AMI."
  default     = "us-east-1"
}

variable "instance_type" {
  type        = string
  description = "Instance type to bake on."
  default     = "c7i.large"
}

variable "subnet_id" {
  type        = string
  description = "Subnet to bake in; empty: the default VPC's."
  default     = ""
}

variable "image_name" {
  type        = string
  description = "Name of the AMI; unique in the account."
}

variable "git_revision" {
  type        = string
  description = "Revision of the checkout, with -dirty when it has changes."
}

variable "processor_version" {
  type        = string
  description = "Version of the worker in the image."
}

variable "model" {
  type        = string
  description = "Default model, e.g. faster-whisper/base."
}

variable "model_sha256" {
  type        = string
  description = "The sha256 of its weights."
}

variable "ansible_playbook" {
  type        = string
  description = "Path of ansible-playbook on the build host."
  default     = "ansible-playbook"
}

variable "ansible_variables" {
  type        = string
  description = "JSON file with what the roles take from the build host."
}

variable "verify_command" {
  type        = string
  description = "Command that runs the image's tests; the machine is named by IMAGE_* variables."
}

variable "manifest" {
  type        = string
  description = "File that gets the AMI's id."
}

variable "root_gib" {
  type        = number
  description = "Size of the root volume."
  default     = 15
}

variable "ssh_cidrs" {
  type        = list(string)
  description = "Where the machine being baked may be reached from."
  default     = ["0.0.0.0/0"]
}

# The rehearsal's: an emulated EC2, and the machine that stands for the instance. Empty on AWS.

variable "ec2_endpoint" {
  type        = string
  description = "Endpoint of EC2; empty: the real one."
  default     = ""
}

variable "ssh_username" {
  type        = string
  description = "Whom the source image lets in."
  default     = "ubuntu"
}

variable "ssh_host" {
  type        = string
  description = "Address to bake on instead of the instance's."
  default     = ""
}

variable "ssh_port" {
  type        = number
  description = "Port of SSH."
  default     = 22
}

variable "ssh_private_key_file" {
  type        = string
  description = "Key for that machine; empty: a temporary one."
  default     = ""
}

variable "ssh_keypair_name" {
  type        = string
  description = "EC2's name for that key."
  default     = ""
}
